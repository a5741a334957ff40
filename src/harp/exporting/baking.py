"""A network without parametrizations: whatever torch computes before each forward pass, computed once."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from harp.pruning.mask import parametrizations


def baked(model: nn.Module) -> nn.Module:
    """The model itself when all its weights are plain parameters, else a copy in which they are.

    Pruning of torch.nn.utils.prune, weight norm, spectral norm and every other parametrization are taken for what they
    give in eval mode.
    """
    if not any(parametrizations(module) or _hooks(module) for module in model.modules()):
        return model
    plain = _copy(model).eval()
    with torch.no_grad():
        for module in plain.modules():
            if chains := parametrizations(module):
                _bake_chains(module, chains)
            for key, hook in _hooks(module).items():
                hook.remove(module)  # which writes its weight as a parameter
                del module._forward_pre_hooks[key]
    return plain


def _copy(model: nn.Module) -> nn.Module:
    """torch refuses to copy what has a gradient function, such as the product of weight and mask in a pruned module."""
    values = [value for module in model.modules() for value in vars(module).values()]
    memo = {id(v): v.detach().clone() for v in values if isinstance(v, Tensor) and not v.is_leaf}
    return copy.deepcopy(model, memo)


def _hooks(module: nn.Module) -> dict[int, Any]:
    kinds = (BasePruningMethod, WeightNorm, SpectralNorm)
    return {key: hook for key, hook in module._forward_pre_hooks.items() if isinstance(hook, kinds)}


def _bake_chains(module: nn.Module, chains: dict[str, ParametrizationList]) -> None:
    """Not torch's remove_parametrizations, which takes the property from a class that the copied module is of, too."""
    values = {name: chain().detach() for name, chain in chains.items()}
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=value.is_floating_point()))
