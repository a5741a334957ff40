"""Cuts every tensor to the channels that stay, and tells the modules."""

from collections.abc import Sequence

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
        follow_sizes(module, _changed(coupling, prefix, stays))


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


def _changed(coupling: Coupling, module: str, stays: Tensor) -> dict[int, int]:
    """How many channels there were and are, where a module reshapes them and that is one number.

    What its parent reshapes counts, too: that may have called one of its functions, a table of positions say.
    """
    parent = module.rpartition(".")[0]
    found = _one_number(coupling.written.get(parent, ()) if parent else (), stays)
    found |= _one_number(coupling.written.get(module, ()), stays)
    return {before: now for before, now in found.items() if now != before}


def _one_number(places: Sequence[Tensor], stays: Tensor) -> dict[int, int]:
    found: dict[int, set[int]] = {}
    for place in places:
        found.setdefault(len(place), set()).add(int(stays[place].sum()))
    return {before: now for before, (now, *others) in found.items() if not others}
