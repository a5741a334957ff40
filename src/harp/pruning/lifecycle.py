"""attach_masks → freeze_masks → bake_masks: the three verbs of pruning, each in place on any ``nn.Module``."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from .budget import Budget, exact_counts, prunable_weights
from .mask import Mask, masks
from .methods import HARP, Method

NORMALISATION = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def attach_masks(model: nn.Module, budget: Budget, method: Method = HARP) -> nn.Module:
    """Give every weight of the budget a mask. Weights rest from now on; scores, keep fractions and norms learn.

    Learned keep fractions live in (0.1 · budget.keep, 1). Raises ValueError when the model already has masks, is not
    the one the budget was made for, or when a weight is computed by another parametrization.
    """
    if masks(model):
        raise ValueError("the model already has masks; bake_masks(model) first, or continue with the masks it has")
    weights = _weights_of(model, budget.sites)
    starts = method.keeps(weights, budget.keep)
    for name, weight in weights.items():
        learn = method.learn if starts[name] < 1 else method.learn - {"keeps"}
        # At keep=1 nothing can be pruned and a fraction has nothing to learn.
        keep = min(max(starts[name], 1 / weight.numel()), 1.0)
        keep_min = min(0.1 * budget.keep, 0.5 * keep)
        mask = Mask(method.scores(weight.detach()), keep, learn=learn, keep_min=keep_min, estimator=method.estimator)
        mask.to(weight.device)
        _attach(model, name, mask)
    _note_resting(model, budget)
    return model


def attach_frozen_masks(model: nn.Module, chosen: Mapping[str, Tensor]) -> nn.Module:
    """Attach masks that were learned before: bool tensors of the weights' shapes, by weight name. Weights learn."""
    if masks(model):
        raise ValueError("the model already has masks; bake_masks(model) first")
    weights = _weights_of(model, tuple(chosen))
    for name, weight in weights.items():
        if chosen[name].dtype != torch.bool or chosen[name].shape != weight.shape:
            got = f"{chosen[name].dtype} {tuple(chosen[name].shape)}"
            raise ValueError(f"the mask of {name} must be torch.bool of shape {tuple(weight.shape)}, got {got}")
    for name, weight in weights.items():
        mask = Mask(weight, 1.0, learn=frozenset(), keep_min=0.0, estimator=HARP.estimator)
        mask._settle(chosen[name].to(weight.device))
        _attach(model, name, mask)
    return model


def freeze_masks(model: nn.Module) -> nn.Module:
    """Fix the masks at exactly round(budget.keep · N) entries; scores and keep fractions go, surviving weights learn.

    Calling it again, or on a model that loaded a frozen state, changes nothing but lets the weights learn.
    """
    found = _need_masks(model)
    learning = {name: mask for name, mask in found.items() if not mask.frozen}
    if learning:
        budget = next(iter(found.values())).budget
        sizes = {name: mask.size for name, mask in learning.items()}
        keeps = {name: float(mask.keep) for name, mask in learning.items()}
        for name, count in exact_counts(keeps, sizes, round(budget.keep * sum(sizes.values()))).items():
            learning[name].freeze(count)
    resting = next(iter(found.values())).resting
    for name, parameter in model.named_parameters():
        if name in resting:
            parameter.requires_grad_(True)
    return model


def bake_masks(model: nn.Module) -> nn.Module:
    """Write the masks into the weights and take every trace of pruning away: the plain network again, with zeros.

    Raises ValueError when the masks still learn (their count would not be exact): freeze_masks(model) first.
    """
    still = [name for name, mask in _need_masks(model).items() if not mask.frozen]
    if still:
        raise ValueError(f"the masks of {still} still learn; call freeze_masks(model) before bake_masks(model)")
    for module in [m for m in model.modules() if is_parametrized(m)]:
        if all(isinstance(p, Mask) for chain in module.parametrizations.values() for p in chain):
            _bake(module)
    return model


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """What an optimiser may change now: scores, logits and norms while masks learn, every weight after freezing."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _need_masks(model: nn.Module) -> dict[str, Mask]:
    found = masks(model)
    if not found:
        raise ValueError("the model has no masks; call attach_masks(model, budget) first")
    return found


def _weights_of(model: nn.Module, names: tuple[str, ...]) -> dict[str, nn.Parameter]:
    for prefix, module in model.named_modules():
        if is_parametrized(module) and any(name.rpartition(".")[0] == prefix for name in names):
            raise ValueError(
                f"{prefix or 'the model'} already has a parametrization {list(module.parametrizations)}; remove it first"
            )
    weights = prunable_weights(model)
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"the model has no prunable weight {missing}; make the budget from this very model")
    return {name: weights[name] for name in names}


def _attach(model: nn.Module, name: str, mask: Mask) -> None:
    prefix, _, tensor_name = name.rpartition(".")
    mask.train(model.get_submodule(prefix).training)
    register_parametrization(model.get_submodule(prefix), tensor_name, mask, unsafe=True)


def _note_resting(model: nn.Module, budget: Budget) -> None:
    """Let every parameter rest that is neither a norm's nor a mask's, and remember which did, to wake them later."""
    norms = {id(p) for m in model.modules() if isinstance(m, NORMALISATION) for p in m.parameters()}
    own = {id(p) for mask in masks(model).values() for p in mask.parameters()}
    resting = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in norms | own:
            parameter.requires_grad_(False)
            resting.append(name)
    for mask in masks(model).values():
        mask.budget = budget
        mask.resting = frozenset(resting)


def _bake(module: nn.Module) -> None:
    """torch's remove_parametrizations deletes from the injected class, which a deepcopy of the module shares; this
    gives the module its own class back and leaves the injected one alone."""
    weights = {}
    for tensor_name, chain in module.parametrizations.items():
        original = chain.original
        with torch.no_grad():
            weights[tensor_name] = nn.Parameter(chain().detach().clone(), requires_grad=original.requires_grad)
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    others = dict(module._parameters)
    module._parameters.clear()
    module._parameters.update({**weights, **others})
