"""attach_masks → freeze_masks → bake_masks: the three verbs of pruning, each in place on any ``nn.Module``."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .attaching import attach
from .budget import PRUNED_TENSORS, Budget, exact_counts, prunable_weights
from .channels.budget import ChannelBudget
from .channels.reader import Reader
from .channels.starts import attach_channel_masks, attach_frozen_channel_masks
from .mask import Mask, masks, parametrizations
from .methods import HARP, NOTHING, WEIGHTS, Method

NORMALISATION = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.instancenorm._InstanceNorm,
)
"""Modules whose parameters go on learning while the weights rest."""

_FULLEST_START = 0.99  # a learned fraction of 1 has no logit, and one beyond this could hardly come down


def attach_masks(model: nn.Module, budget: Budget, method: Method = HARP) -> nn.Module:
    """Give every weight, or group of channels, of the budget a mask. Weights rest from now on; scores, keep fractions and norms learn.

    Learned keep fractions live in (0.1 · budget.keep, 1); fixed ones spend exactly the budget from the start. Raises
    ValueError when the model already has masks, is not the one the budget was made for, has a weight that is not
    finite, or one that sits beside another parametrization.
    """
    if not isinstance(budget, Budget):
        raise TypeError(f"budget={budget!r} must be a budget of this model, e.g. weight_budget(model, keep=0.01)")
    if not isinstance(method, Method):
        raise TypeError(f"method={method!r} must be a Method: HARP, HYDRA, …, or METHODS['harp']")
    if method.learn == WEIGHTS:
        raise ValueError(
            "method=METHODS['r-admm'] learns weights, before there are masks: add the loss of harp.pruning.Admm(model, "
            "budget, steps, rho=…) to yours, and cut with attach_masks(model, budget, LWM) at the end"
        )
    if isinstance(budget, ChannelBudget):
        attach_channel_masks(model, budget, method)
    else:
        _attach_weight_masks(model, budget, method)
    _rest(model, budget)
    return model


def _attach_weight_masks(model: nn.Module, budget: Budget, method: Method) -> None:
    weights = _weights_of(model, budget.sites)
    _refuse_another_network(budget, weights)
    starts, learn = method.keeps(weights, budget.keep), method.learn
    if "keeps" not in learn or budget.keep == 1:
        learn -= {"keeps"}
        sizes = {name: weight.numel() for name, weight in weights.items()}
        starts = {name: n / sizes[name] for name, n in exact_counts(starts, sizes, budget.limit).items()}
    made = {name: _mask_for(weight, starts[name], budget, method, learn) for name, weight in weights.items()}
    for name, mask in made.items():
        attach(model, name, mask)


def attach_frozen_masks(
    model: nn.Module, chosen: Mapping[str, Tensor], budget: ChannelBudget | None = None
) -> nn.Module:
    """Attach masks that were learned before: bool tensors of the weights' shapes, by weight name. Weights learn.

    Masks on channels need the ``budget`` that knows what they couple: then they are by group, an entry a channel.
    """
    if budget is not None:
        attach_frozen_channel_masks(model, budget, chosen)
        return model
    weights = _weights_of(model, chosen)
    for name, weight in weights.items():
        if chosen[name].dtype != torch.bool or chosen[name].shape != weight.shape:
            got = f"{chosen[name].dtype} {tuple(chosen[name].shape)}"
            raise ValueError(f"the mask of {name} must be torch.bool of shape {tuple(weight.shape)}, got {got}")
    for name, weight in weights.items():
        mask = Mask(weight, 1.0, learn=NOTHING, keep_min=0.0, estimator=HARP.estimator)
        mask.freeze(chosen[name].to(weight.device, copy=True))
        attach(model, name, mask)
    return model


def freeze_masks(model: nn.Module) -> nn.Module:
    """Fix the masks at exactly round(budget.keep · N) entries; scores and keep fractions go, surviving weights learn.

    Calling it again, or on a model that loaded a frozen state, changes nothing but lets the weights learn. Raises
    ValueError when scores or fractions are not finite, or the model is not the one that attach_masks was given.
    """
    found = _need_masks(model)
    first = next(iter(found.values()))
    parameters = dict(model.named_parameters())
    unknown = sorted(first.resting - set(parameters))
    if unknown:
        raise ValueError(f"the model has no {unknown}; call freeze_masks on the module that attach_masks was given")
    learning = {name: mask for name, mask in found.items() if not mask.frozen}
    if learning:
        counts = _final_counts(found, first.budget)
        for name, mask in learning.items():
            mask.freeze(mask.best(counts[name]))
    for name in first.resting:
        parameters[name].requires_grad_(True)
    return model


def bake_masks(model: nn.Module) -> nn.Module:
    """Write the masks into the weights and take every trace of pruning away: the plain network again, with zeros.

    The parameters stay the objects they were. Raises ValueError when the masks still learn (their count would not be
    exact), exceed their budget, or share a module with another parametrization.
    """
    found = _need_masks(model)
    still = [name for name, mask in found.items() if not mask.frozen]
    if still:
        raise ValueError(f"the masks of {still} still learn; call freeze_masks(model) before bake_masks(model)")
    budget, kept = next(iter(found.values())).budget, {name: mask.count for name, mask in found.items()}
    if budget is not None and not budget.allows(kept):
        raise ValueError(
            f"the masks keep {sum(kept.values())} entries, too many for a budget of {budget.limit}; freeze_masks makes such"
        )
    masked = {prefix: m for prefix, m in model.named_modules() if any(map(_is_masking, parametrizations(m).values()))}
    for prefix, module in masked.items():
        _refuse_company(prefix, parametrizations(module))
    for module in masked.values():
        _bake(module)
    return model


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """What the optimiser may change now: scores and norms while masks learn, every weight after freezing.

    Not the logits of the keep fractions: a `Descent` moves them. Under a `Penalty` give the optimiser ``keep_logits(model)``, too.
    """
    apart = {id(logit) for logit in keep_logits(model)}
    return [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in apart]


def keep_logits(model: nn.Module) -> list[nn.Parameter]:
    """The free variables behind the learned keep fractions, one scalar a layer."""
    return [mask.logit for mask in masks(model).values() if mask.logit is not None]


def _need_masks(model: nn.Module) -> dict[str, Mask]:
    found = masks(model)
    if not found:
        raise ValueError("the model has no masks; call attach_masks(model, budget) first")
    return found


def _weights_of(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    if masks(model):
        raise ValueError("the model already has masks; bake_masks(model) first, or continue with the masks it has")
    owners = {name.rpartition(".")[0] for name in names}
    for prefix, module in model.named_modules():
        if prefix in owners and parametrizations(module):
            where = f"{prefix or 'the model'} already has a parametrization {list(parametrizations(module))}"
            raise ValueError(f"{where}; remove it first, or leave the weight out of the budget")
    weights = prunable_weights(model)
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"the model has no prunable weight {missing}; make the budget from this very model")
    broken = [name for name in names if not weights[name].isfinite().all()]
    if broken:
        raise ValueError(f"{broken} hold weights that are not finite; start from a network that was trained well")
    return {name: weights[name] for name in names}


def _refuse_another_network(budget: Budget, weights: Mapping[str, Tensor]) -> None:
    for term in budget.terms:
        size = weights[term.sites[0]].numel()
        if term.cost != size:
            raise ValueError(
                f"{term.sites[0]} has {size} weights and the budget counts {term.cost:.0f}; make it from this very model"
            )


def _mask_for(weight: Tensor, start: float, budget: Budget, method: Method, learn: frozenset[str]) -> Mask:
    if weight.numel() == 1:  # always kept
        start, learn = 1.0, learn - {"keeps"}
    if "keeps" in learn:
        start = min(max(start, 1 / weight.numel()), max(_FULLEST_START, budget.keep))
    keep_min = min(0.1 * budget.keep, 0.5 * start)
    return Mask(method.scores(weight.detach()), start, learn=learn, keep_min=keep_min, estimator=method.estimator)


def _rest(model: nn.Module, budget: Budget) -> None:
    """Let every parameter rest that is neither a norm's nor a mask's, and remember which did, to wake them later."""
    found = masks(model).values()
    norms = {id(p) for m in model.modules() if isinstance(m, NORMALISATION) for p in m.parameters()}
    own = {id(p) for mask in found for p in mask.parameters()}
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in norms | own}
    for parameter in learning.values():
        parameter.requires_grad_(False)
    for mask in found:
        mask.budget, mask.resting = budget, frozenset(learning)


def _final_counts(found: Mapping[str, Mask], budget: Budget) -> dict[str, int]:
    """How many entries each mask keeps in the end: fixed quotas stand, learned fractions share the rest."""
    diverged = [name for name, mask in found.items() if mask.scores is not None and not mask.scores.isfinite().all()]
    if diverged:
        raise ValueError(f"the scores of {diverged} are not finite: learning diverged; go back to a good state")
    if isinstance(budget, ChannelBudget):
        return budget.counts({name: float(mask.keep.detach()) for name, mask in found.items()})
    fixed = {name: mask.count for name, mask in found.items() if mask.logit is None}
    keeps = {name: float(mask.keep.detach()) for name, mask in found.items() if name not in fixed}
    sizes = {name: found[name].size for name in keeps}
    spent = sum(fixed.values())
    if not len(sizes) <= budget.limit - spent <= sum(sizes.values()):
        raise ValueError(
            f"the fixed quotas keep {spent} weights and the budget {budget.limit}: the state is of another"
        )
    return fixed | exact_counts(keeps, sizes, budget.limit - spent)


def _is_masking(chain: nn.ModuleList) -> bool:
    return any(isinstance(part, (Mask, Reader)) for part in chain)


def _refuse_company(prefix: str, chains: Mapping[str, nn.ModuleList]) -> None:
    foreign = [name for name, chain in chains.items() if len(chain) > 1 or not _is_masking(chain)]
    if foreign:
        raise ValueError(f"{foreign} of {prefix or 'the model'} has a parametrization that is no mask; remove it first")


def _bake(module: nn.Module) -> None:
    """torch's remove_parametrizations deletes from the injected class, which a deepcopy of the module shares; this
    gives the module its own class back and leaves the injected one alone."""
    plain = dict(module._parameters)
    for tensor_name, chain in parametrizations(module).items():
        weight = chain.original
        assert isinstance(weight, nn.Parameter)
        with torch.no_grad():
            weight.copy_(chain())
        plain[tensor_name] = weight
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    module._parameters.clear()
    # Weights come first again, as in the plain network: the state of an optimiser counts parameters.
    order = {name: place for place, name in enumerate(PRUNED_TENSORS)}
    module._parameters.update(sorted(plain.items(), key=lambda item: order.get(item[0], len(order))))
