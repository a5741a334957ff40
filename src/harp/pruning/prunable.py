"""Which weights of a network can be pruned, and why some cannot."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harp.pruning.mask import parametrizations

PRUNED_TYPES = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
"""Modules whose weights are counted and pruned. Biases and normalisation never are."""
PRUNED_TENSORS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that can be pruned, by name, each module once however often it is called."""
    found = {}
    for name, module, tensor_name in _places(model):
        weight = module._parameters.get(tensor_name)
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet; run one batch through the model first")
        if weight is not None and weight.numel() > 0:
            found[name] = weight
    return found


def prunable_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """The shape of each weight that can be pruned, or that has a mask already, by name."""
    found = {}
    for name, module, tensor_name in _places(model):
        chain = parametrizations(module).get(tensor_name)
        weight = module._parameters.get(tensor_name) if chain is None else chain.original
        if isinstance(weight, nn.Parameter) and weight.numel() > 0:
            found[name] = weight.shape
    return found


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for prefix, module in model.named_modules():
        if isinstance(module, PRUNED_TYPES):
            for tensor_name in PRUNED_TENSORS:
                yield f"{prefix}.{tensor_name}" if prefix else tensor_name, module, tensor_name


def alive(weight: Tensor) -> int:
    """How many entries can ever count: those that are not zero; all of a weight that is nothing but zeros, a fresh one."""
    return int(weight.detach().count_nonzero()) or weight.numel()


def computed_weights(model: nn.Module) -> list[str]:
    """Names of weights that are not parameters: a parametrization or a hook makes them anew, e.g. weight norm."""
    return [
        name
        for name, module, tensor_name in _places(model)
        if tensor_name not in module._parameters and isinstance(getattr(module, tensor_name, None), Tensor)
    ]


def refuse_computed(names: list[str]) -> None:
    if names:
        raise ValueError(
            f"{names} are computed by a parametrization or a hook (weight norm, for instance), and a mask needs the "
            f"weight itself; remove it first, or leave them out: exclude={names}"
        )


def refuse_shared(model: nn.Module, names: list[str]) -> None:
    owners: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():
        for tensor_name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(f"{prefix}.{tensor_name}" if prefix else tensor_name)
    weights = prunable_weights(model)
    for name in names:
        sharing = owners[id(weights[name])]
        if len(sharing) > 1:
            raise ValueError(
                f"{' and '.join(sharing)} share one weight, which can have only one mask; leave it out: "
                f"exclude={[n for n in sharing if n in weights]}"
            )
