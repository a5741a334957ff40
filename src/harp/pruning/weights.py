"""Masks on single weights: where a method starts them, masks that were learned before, and the nearest sparse point."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from harp.pruning.attaching import attach
from harp.pruning.counts import exact_counts
from harp.pruning.mask import Mask, masks, parametrizations
from harp.pruning.methods import HARP, NOTHING, Method
from harp.pruning.prunable import alive, prunable_weights
from harp.pruning.selection import top

FULLEST_START = 0.99
"""A learned fraction of 1 has no logit, and one beyond this could hardly come down."""


def attach_weight_masks(model: nn.Module, sizes: Mapping[str, int], keep: float, limit: int, method: Method) -> None:
    """Give each weight a mask as the method starts it. Fixed fractions spend exactly ``limit`` of them from the start."""
    weights = _weights_of_size(model, sizes)
    most = _alive(weights, keep, limit)
    starts, learn = method.keeps(weights, keep), method.learn
    if "keeps" not in learn or keep == 1:
        learn -= {"keeps"}
        starts = {name: n / sizes[name] for name, n in exact_counts(starts, sizes, limit, most=most).items()}
    made = {name: _mask_for(w, starts[name], keep, method, learn, most[name]) for name, w in weights.items()}
    for name, mask in made.items():
        attach(model, name, mask)


def attach_open_weight_masks(model: nn.Module, sizes: Mapping[str, int], keep: float, limit: int) -> None:
    """Give each weight a mask that keeps all of it, but for what is zero already."""
    weights = _weights_of_size(model, sizes)
    most = _alive(weights, keep, limit)
    attach_frozen_weight_masks(model, {n: (w != 0) | (most[n] == w.numel()) for n, w in weights.items()})


def scores_of(method: Method, weight: Tensor) -> Tensor:
    """The method's scores, and 0 for what is zero already: it comes last, whatever the method thinks of it."""
    scores, weight = method.scores(weight.detach()), weight.detach()
    return torch.where(weight == 0, 0.0, scores) if alive(weight) < weight.numel() else scores


def _alive(weights: Mapping[str, Tensor], keep: float, limit: int) -> dict[str, int]:
    """The most that each weight can keep. Raises ValueError when that is less than the budget."""
    most, total = {name: alive(weight) for name, weight in weights.items()}, sum(w.numel() for w in weights.values())
    if keep == 1:  # whatever there is
        return {name: weight.numel() for name, weight in weights.items()}
    if limit > sum(most.values()):
        raise ValueError(
            f"keep={keep:g} leaves {limit:,} of {total:,} weights, and only {sum(most.values()):,} of the model's are not "
            f"zero: it is sparser than the budget already; choose keep below {sum(most.values()) / total:.3g}"
        )
    return most


def attach_frozen_weight_masks(model: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Attach masks that were learned before: bool tensors of the weights' shapes, by weight name."""
    weights = _weights_of(model, chosen)
    for name, weight in weights.items():
        if chosen[name].dtype != torch.bool or chosen[name].shape != weight.shape:
            got = f"{chosen[name].dtype} {tuple(chosen[name].shape)}"
            raise ValueError(f"the mask of {name} must be torch.bool of shape {tuple(weight.shape)}, got {got}")
    for name, weight in weights.items():
        mask = Mask(weight, 1.0, learn=NOTHING, keep_min=0.0, estimator=HARP.estimator)
        mask.freeze(chosen[name].to(weight.device, copy=True))
        attach(model, name, mask)


class WeightProjection:
    """Keeps the entries that the method's masks would keep, and zeroes the others. ``weights`` are what it is about."""

    def __init__(self, model: nn.Module, sites: Collection[str], keep: float, limit: int, method: Method):
        weights = prunable_weights(model, sites)
        self.weights, self.method = {name: weights[name] for name in sites}, method
        sizes = {name: method.scores(weight.detach()).numel() for name, weight in self.weights.items()}
        self.counts = exact_counts(method.keeps(self.weights, keep), sizes, limit)

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: value * top(self.method.scores(value), self.counts[n]) for n, value in values.items()}


def _weights_of_size(model: nn.Module, sizes: Mapping[str, int]) -> dict[str, nn.Parameter]:
    weights = _weights_of(model, sizes)
    for name, weight in weights.items():
        if weight.numel() != sizes[name]:
            raise ValueError(
                f"{name} has {weight.numel()} weights and the budget counts {sizes[name]}; make it from this very model"
            )
    return weights


def _weights_of(model: nn.Module, names: Collection[str]) -> dict[str, nn.Parameter]:
    if masks(model):
        raise ValueError("the model already has masks; bake_masks(model) first, or continue with the masks it has")
    owners = {name.rpartition(".")[0] for name in names}
    for prefix, module in model.named_modules():
        if prefix in owners and parametrizations(module):
            where = f"{prefix or 'the model'} already has a parametrization {list(parametrizations(module))}"
            raise ValueError(f"{where}; remove it first, or leave the weight out of the budget")
    weights = prunable_weights(model, names)
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"the model has no prunable weight {missing}; make the budget from this very model")
    broken = [name for name in names if not weights[name].isfinite().all()]
    if broken:
        raise ValueError(f"{broken} hold weights that are not finite; start from a network that was trained well")
    return {name: weights[name] for name in names}


def _mask_for(weight: Tensor, start: float, keep: float, method: Method, learn: frozenset[str], most: int) -> Mask:
    """``most`` entries of the weight can be kept."""
    top_start = max(FULLEST_START, keep) if most == weight.numel() else FULLEST_START * most / weight.numel()
    if most == 1:  # always kept
        start, learn = 1 / weight.numel(), learn - {"keeps"}
    if "keeps" in learn:
        start = min(max(start, 1 / weight.numel()), top_start)
    keep_min = min(0.1 * keep, 0.5 * start)
    return Mask(
        scores_of(method, weight),
        start,
        learn=learn,
        keep_min=keep_min,
        estimator=method.estimator,
        keep_max=most / weight.numel(),
    )
