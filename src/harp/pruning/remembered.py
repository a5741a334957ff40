"""A value, and whether the tensors that it was computed from are still what they were.

Version counters say so of every write that autograd sees. Fused optimisers and writes through ``.data`` leave them as
they are, so a few entries are compared as well: what changes a whole tensor changes them.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

_LOOKED_AT = 64
"""Entries of a tensor that are compared. A tensor of fewer is compared in full."""
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Remembered:
    """``value`` was computed from ``sources``; of the last of them, ``at`` are the entries to compare.

    Not ``closely``, none is ever compared, and none looked up.
    """

    def __init__(self, value: Tensor, sources: Sequence[Tensor], at: Tensor | None = None, *, closely: bool = True):
        self.value = value
        self.made = _Seen(value, at, closely)
        self.seen = [_Seen(tensor, None, closely) for tensor in sources[:-1]] + [_Seen(sources[-1], at, closely)]

    def is_of(self, *sources: Tensor, closely: bool = True) -> bool:
        """Whether computing the value from these tensors would give the same again; not ``closely``, by versions alone."""
        return len(sources) == len(self.seen) and all(
            seen.is_still(tensor, closely) for seen, tensor in zip(self.seen, sources, strict=True)
        )

    def is_intact(self, *, closely: bool = True) -> bool:
        """Whether nobody has written to the value itself, which was handed out."""
        return self.made.is_still(self.value, closely)


class _Seen:
    """A tensor as it was: where it lay, how often it had been written to, and some of its entries."""

    def __init__(self, tensor: Tensor, at: Tensor | None, closely: bool):
        self.tensor, self.place, self.version = tensor, tensor.data_ptr(), _version(tensor)
        self.on_cpu = tensor.device.type == "cpu"
        if not closely:
            return
        if self.on_cpu:  # numpy reads 64 entries in a microsecond, torch in ten; and two NaNs have the same bits
            self.array = _bits(tensor).numpy()
            index = _evenly(tensor.shape) if at is None else tuple(at.T)
            self.index = tuple(axis.numpy() for axis in index)
            self.bits = self.array[self.index].tobytes()
        else:
            self.index = _evenly_on(tensor.shape, tensor.device) if at is None else tuple(at.T)
            self.entries = tensor.detach()[self.index].clone()

    def is_still(self, tensor: Tensor, closely: bool) -> bool:
        if tensor is not self.tensor or _version(tensor) != self.version or tensor.data_ptr() != self.place:
            return False
        if not closely:
            return True
        if self.on_cpu:
            return self.array[self.index].tobytes() == self.bits
        return torch.equal(tensor.detach()[self.index], self.entries)


@lru_cache(maxsize=1024)
def _evenly(shape: torch.Size) -> tuple[Tensor, ...]:
    return torch.unravel_index(_some_of(shape.numel()), shape) if shape else ()


@lru_cache(maxsize=1024)
def _evenly_on(shape: torch.Size, device: torch.device) -> tuple[Tensor, ...]:
    """The same on a GPU, where a copy of numbers is waited for: once a shape."""
    return tuple(axis.to(device) for axis in _evenly(shape))


def where_true(mask: Tensor, shape: torch.Size) -> Tensor:
    """A few entries at which a mask, broadcast to this shape, is True: those that make a difference to a product."""
    places = mask.expand(shape).nonzero()
    return places[_some_of(len(places)).to(places.device)]


def _some_of(count: int) -> Tensor:
    """At most 64 of the whole numbers below ``count``, evenly spread."""
    return torch.linspace(0, count - 1, min(count, _LOOKED_AT), dtype=torch.float64).round().long()


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().view(_BITS[tensor.element_size()])


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
