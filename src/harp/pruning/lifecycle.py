"""attach_masks → freeze_masks → bake_masks: the three verbs of pruning, each in place on any ``nn.Module``."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harp.pruning.attaching import parameter_order
from harp.pruning.budget import Budget, budget_of
from harp.pruning.channels.reader import Reader
from harp.pruning.mask import Mask, masks, parametrizations
from harp.pruning.methods import GRADUAL, HARP, WEIGHTS, Method
from harp.pruning.prunable import NORMALISATION, prunable_weights, refuse_shared
from harp.pruning.weights import attach_frozen_weight_masks


def attach_masks(model: nn.Module, budget: Budget, method: Method = HARP) -> nn.Module:
    """Give every weight, or group of channels, of the budget a mask. Weights rest from now on; scores, keep fractions and norms learn.

    Learned keep fractions live in (0.1 · budget.keep, 1); fixed ones spend exactly the budget from the start. Under the
    masks of gradual pruning (GMP) weights learn, and nothing is removed before `harp.pruning.Gradual` renews them. Raises
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
    if method.learn == GRADUAL:
        budget.attach_open(model)
        for mask in masks(model).values():
            mask.budget = budget
        return model
    budget.attach(model, method)
    _rest(model, budget)
    return model


def attach_frozen_masks(model: nn.Module, chosen: Mapping[str, Tensor], budget: Budget | None = None) -> nn.Module:
    """Attach masks that were learned before: bool tensors of the weights' shapes, by weight name. Weights learn.

    Masks on channels need the ``budget`` that knows what they couple: then they are by group, an entry per channel.
    """
    if budget is None:
        attach_frozen_weight_masks(model, chosen)
    else:
        budget.attach_frozen(model, chosen)
    for mask in masks(model).values():
        mask.budget = budget
    return model


def keep_zeros(model: nn.Module) -> nn.Module:
    """Attach frozen masks where the weights of a pruned network are zero, so that training does not revive them.

    The others learn as before; ``bake_masks(model)`` takes the masks away again. Raises ValueError for a network that has no
    zero among its convolution, linear and attention-projection weights, and for one that has masks.
    """
    zeros = {name: weight.detach() != 0 for name, weight in prunable_weights(model).items() if not weight.all()}
    if not zeros and not masks(model):
        raise ValueError("the model has no weight that is zero: prune it first, and bake_masks(model) leaves zeros")
    refuse_shared(model, list(zeros))
    return attach_frozen_masks(model, zeros)


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
        _refuse_diverged(learning)
        assert first.budget is not None, "masks that learn have a budget"
        counts = first.budget.final_counts(found)
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
    budget, kept = budget_of(model), {name: mask.count for name, mask in found.items()}
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


def outside_masks(model: nn.Module) -> list[str]:
    """The weights that are not zero where their frozen masks remove them, by the names of the unmasked network."""
    found = []
    with torch.no_grad():
        for prefix, module in model.named_modules():
            for tensor_name, chain in parametrizations(module).items():
                if _is_masking(chain) and not torch.equal(chain(), chain.original):
                    found.append(f"{prefix}.{tensor_name}" if prefix else tensor_name)
    return found


def _need_masks(model: nn.Module) -> dict[str, Mask]:
    found = masks(model)
    if not found:
        raise ValueError("the model has no masks; call attach_masks(model, budget) first")
    return found


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


def _refuse_diverged(learning: Mapping[str, Mask]) -> None:
    diverged = [name for name, mask in learning.items() if mask.scores is not None and not mask.scores.isfinite().all()]
    if diverged:
        raise ValueError(f"the scores of {diverged} are not finite: learning diverged; go back to a good state")


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
    order = parameter_order(module)
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    module._parameters.clear()
    # In the order of the plain network again: the state of an optimiser counts parameters.
    module._parameters.update({name: plain[name] for name in order})
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()
