"""Masks on whole channels: they sit on the inputs of the weights that read them, and a group has one mask for all."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from harp.pruning.attaching import attach
from harp.pruning.channels.coupling import Coupling
from harp.pruning.mask import Mask


class Reader(nn.Module):
    """weight ↦ weight ⊙ the masks of the channel groups that it reads, one entry an input channel.

    The scores and the keep fraction are the group's: the first reader of a group owns its :class:`~harp.pruning.Mask`,
    the others look at it.
    """

    place: Tensor

    def __init__(self, groups: Mapping[str, Mask], owned: Iterable[str], place: Tensor, dim: int):
        super().__init__()
        self.groups = tuple(groups.values())  # a tuple hides them from the module tree: they are in it once
        self.owned = nn.ModuleList(groups[name] for name in owned)
        self.dim = dim
        self.register_buffer("place", place, persistent=False)

    def kept(self, like: Tensor) -> Tensor:
        """1 where a channel stays and 0 where it goes, with straight-through gradients to the groups' scores."""
        always = like.new_ones(1)
        entries = [group(like.new_ones(1, group.size)).flatten() for group in self.groups]
        along = [-1 if dim == self.dim else 1 for dim in range(like.dim())]
        return torch.cat([*entries, always])[self.place].view(along)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept(weight)


def attach_readers(model: nn.Module, coupling: Coupling, made: Mapping[str, Mask]) -> None:
    """Put the groups' masks on every weight that reads them."""
    starts, owned = coupling.starts, set[str]()
    for axis in coupling.read():
        names = list(coupling.held(axis))
        sizes = [coupling.sizes[name] for name in names]
        place = torch.full_like(axis.place, sum(sizes))  # after all groups comes what always stays
        first = 0
        for name, size in zip(names, sizes, strict=True):
            inside = (axis.place >= starts[name]) & (axis.place < starts[name] + size)
            place[inside] = axis.place[inside] - starts[name] + first
            first += size
        new = [name for name in names if name not in owned]
        owned.update(new)
        reader = Reader({name: made[name] for name in names}, new, place, axis.dim)
        attach(model, axis.tensor, reader.to(model.get_parameter(axis.tensor).device))
