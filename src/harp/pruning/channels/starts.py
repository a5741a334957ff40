"""Where a method starts on channels: how important each is, and how the budget is first split over groups."""

from collections.abc import Mapping
from inspect import unwrap

import torch
from torch import Tensor, nn

from harp.pruning.channels.budget import ChannelBudget
from harp.pruning.channels.coupling import Coupling
from harp.pruning.channels.reader import attach_readers
from harp.pruning.keeps import Split, erk
from harp.pruning.mask import Mask, masks, parametrizations
from harp.pruning.methods import HARP, Method
from harp.pruning.weights import FULLEST_START


def saliences(model: nn.Module, coupling: Coupling, values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Mean absolute weight of what a channel writes and is read by: its L1 norm, comparable between groups.

    One row, so that a group looks like a weight with an input for each channel. ``values`` stand for weights of those names.
    """
    channels = sum(coupling.sizes.values())
    total, entries = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    for axis in coupling.axes:
        if axis.tensor not in coupling.positions:  # not the weight of a layer
            continue
        weight = (values or {}).get(axis.tensor, model.get_parameter(axis.tensor)).detach()
        sums = weight.double().abs().sum([d for d in range(weight.dim()) if d != axis.dim]).cpu()
        held = axis.place >= 0
        total.index_add_(0, axis.place[held], sums[held])
        entries.index_add_(0, axis.place[held], torch.full_like(sums[held], weight.numel() / weight.size(axis.dim)))
    parts = (total / entries.clamp_min(1)).float().split(list(coupling.sizes.values()))
    return {name: part[None] for name, part in zip(coupling.sizes, parts, strict=True)}


def first_masks(model: nn.Module, budget: ChannelBudget, method: Method) -> dict[str, Mask]:
    """A mask for each group, as the method starts it. Fixed fractions meet the budget from the start."""
    found, learn = saliences(model, budget.coupling), method.learn
    starts = spending(budget, method.keeps, found)
    if "keeps" not in learn or budget.keep == 1:
        learn -= {"keeps"}
        starts = {name: n / budget.coupling.sizes[name] for name, n in budget.counts(starts).items()}
    device = next(model.parameters()).device
    made = {name: _mask(part.to(device), starts[name], budget, method, learn) for name, part in found.items()}
    for name, mask in made.items():
        mask.site = name
    return made


def _mask(salience: Tensor, start: float, budget: ChannelBudget, method: Method, learn: frozenset[str]) -> Mask:
    if "keeps" in learn:
        start = min(max(start, 1 / salience.numel()), FULLEST_START)
    keep_min = min(0.1 * budget.keep, 0.5 * start)
    return Mask(method.scores(salience), start, learn=learn, keep_min=keep_min, estimator=method.estimator)


def spending(budget: ChannelBudget, split: Split, found: Mapping[str, Tensor]) -> dict[str, float]:
    """The split at that fraction of channels with which it spends the budget, found by bisection."""
    if unwrap(split) is unwrap(erk):  # or a start by it
        # It looks at shapes alone: the channels of a group by the weights that touch each.
        sizes = budget.coupling.sizes
        found = {name: torch.empty(n, _fan(budget.coupling, name), device="meta") for name, n in sizes.items()}

    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if float(budget.share(split(found, middle))) <= budget.keep else (low, middle)
    return split(found, high)


def _fan(coupling: Coupling, name: str) -> int:
    """How many weights of layers touch one channel of a group."""
    touched = sum(
        coupling.held(axis).get(name, 0)
        * (coupling.shapes[axis.tensor].numel() // coupling.shapes[axis.tensor][axis.dim])
        for axis in coupling.axes
        if axis.tensor in coupling.positions
    )
    return max(touched // coupling.sizes[name], 1)


def attach_channel_masks(model: nn.Module, budget: ChannelBudget, method: Method) -> None:
    """Give every group of the budget a mask, as the method starts it, and put it on the weights that read the group."""
    _check_model(model, budget)
    attach_readers(model, budget.coupling, first_masks(model, budget, method))


def attach_frozen_channel_masks(model: nn.Module, budget: ChannelBudget, chosen: Mapping[str, Tensor]) -> None:
    """Attach channel masks that were learned before: bool tensors with an entry per channel, by group."""
    _check_model(model, budget)
    sizes = budget.coupling.sizes
    if set(chosen) != set(sizes):
        raise ValueError(f"the masks are of the groups {sorted(chosen)}, and the model has {sorted(sizes)}")
    made = {}
    for name, mask in chosen.items():
        if mask.dtype != torch.bool or mask.numel() != sizes[name]:
            got = f"{mask.dtype} {tuple(mask.shape)}"
            raise ValueError(f"the mask of {name} must be torch.bool with {sizes[name]} entries, got {got}")
        made[name] = Mask(torch.zeros(1, sizes[name]), 1.0, learn=frozenset(), keep_min=0.0, estimator=HARP.estimator)
        made[name].freeze(mask.view(1, -1).to(next(model.parameters()).device, copy=True))
        made[name].site = name
    attach_readers(model, budget.coupling, made)


def _check_model(model: nn.Module, budget: ChannelBudget) -> None:
    """Raise ValueError unless the budget was made from this model, which has no masks and only finite weights."""
    if masks(model):
        raise ValueError("the model already has masks; bake_masks(model) first, or continue with the masks it has")
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for name, shape in budget.coupling.shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            got = tuple(tensors[name].shape) if name in tensors else "no such tensor"
            raise ValueError(
                f"the budget counts {name} {tuple(shape)}, the model has {got}; make it from this very model"
            )
    read = [axis.tensor for axis in budget.coupling.read()]
    broken = [name for name in read if not tensors[name].isfinite().all()]
    if broken:
        raise ValueError(f"{broken} hold weights that are not finite; start from a network that was trained well")
    for name in read:
        prefix = name.rpartition(".")[0]
        if company := list(parametrizations(model.get_submodule(prefix))):
            raise ValueError(f"{prefix or 'the model'} already has a parametrization {company}; remove it first")
