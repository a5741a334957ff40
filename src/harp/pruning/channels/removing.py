"""Cuts every tensor to the channels that stay, and tells the modules."""

import torch
from torch import Tensor, nn

from harp.pruning.channels.coupling import Coupling
from harp.pruning.channels.widths import fit_sizes, own_tensors, set_tensor
from harp.pruning.channels.written import follow_sizes


@torch.no_grad()
def remove(model: nn.Module, coupling: Coupling, alive: Tensor) -> None:
    """Cut every tensor to the channels that stay, and tell its module."""
    stays = torch.cat([alive, torch.ones(1, dtype=torch.bool)])  # place -1 always
    cut: dict[str, Tensor] = {}
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for axis in coupling.axes:
        tensor = cut.get(axis.tensor, tensors[axis.tensor].detach())
        cut[axis.tensor] = tensor.index_select(axis.dim, stays[axis.place].nonzero().flatten().to(tensor.device))
    for prefix, module in model.named_modules():
        own = own_tensors(module)
        mine = {name: cut[full] for name in own if (full := f"{prefix}.{name}" if prefix else name) in cut}
        for name, tensor in mine.items():
            set_tensor(module, name, tensor)
        if mine:
            whole = (f"{prefix}.weight" if prefix else "weight") in coupling.whole
            fit_sizes(module, {name: tensor.shape for name, tensor in own.items()}, whole=whole)
        _tell(module, prefix, coupling, stays)


@torch.no_grad()
def silence(model: nn.Module, coupling: Coupling, alive: Tensor) -> None:
    """Let no weight read the channels that go: what masks do."""
    stays = torch.cat([alive, torch.ones(1, dtype=torch.bool)])
    for axis in coupling.read():
        prefix, _, name = axis.tensor.rpartition(".")
        weight = model.get_parameter(axis.tensor)
        along = [-1 if dim == axis.dim else 1 for dim in range(weight.dim())]
        kept = stays[axis.place].to(weight.device).view(along)
        set_tensor(model.get_submodule(prefix), name, torch.where(kept, weight.detach(), 0))


def _tell(module: nn.Module, prefix: str, coupling: Coupling, stays: Tensor) -> None:
    """Let a module remember how many channels there are now that it reshapes.

    What its parent reshapes counts, too: that may have called one of its functions, a table of positions say.
    """
    parent = prefix.rpartition(".")[0]
    places = (*(coupling.written.get(parent, ()) if parent else ()), *coupling.written.get(prefix, ()))
    held = [frozenset(place.tolist()) for place in places]
    longest = {each: max((p for p, other in zip(places, held, strict=True) if other == each), key=len) for each in held}
    whole = {len(place): _counts(place, longest[each]) for place, each in zip(places, held, strict=True)}
    now: dict[int, set[int]] = {}
    for place in places:
        now.setdefault(len(place), set()).add(int(stays[place].sum()))
    changed = {before: after for before, (after, *others) in now.items() if not others and after != before}
    follow_sizes(module, changed, frozenset(before for before in changed if whole[before]))


def _counts(place: Tensor, channels: Tensor) -> bool:
    """Whether there is one number for each group of channels, such as a head; not all heads need differ."""
    return len(place) < len(channels) and (len(place) == len(place.unique()) or _run(channels) > _run(place) == 1)


def _run(place: Tensor) -> int:
    """How many equal numbers follow each other, at least."""
    return int(place.unique_consecutive(return_counts=True)[1].min())
