"""Tensors as views: which numbers of a buffer are a tensor's, so that permutations and parts move nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harp.runtime.graph import Shape

MOST_AXES = 6
"""Of what a step of the engine walks along, once axes that lie together have been merged."""


@dataclass(frozen=True)
class View:
    """The numbers at ``offset`` + Σ index · stride of a value of the engine."""

    source: int
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0

    def permuted(self, order: Sequence[int]) -> "View":
        return replace(self, shape=tuple(self.shape[i] for i in order), strides=tuple(self.strides[i] for i in order))

    def part(self, axis: int, start: int, step: int, count: int) -> "View":
        """Every ``step``-th entry along an axis, backwards if it is negative."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, strides[axis] * step
        return View(self.source, tuple(shape), tuple(strides), offset)

    def expanded(self, shape: Shape) -> "View":
        """The same numbers again and again along axes that had one entry, or were not there."""
        new = len(shape) - len(self.shape)
        pairs = zip(self.shape, shape[new:], self.strides, strict=True)
        return replace(self, shape=shape, strides=(0,) * new + tuple(s if a == b else 0 for a, b, s in pairs))

    def reshaped(self, shape: Shape) -> "View | None":
        """The numbers in their order seen with other axes; None where they would have to move."""
        chunks = _merged(self.shape, self.strides)
        strides: list[int] = []
        left, stride = chunks.pop() if chunks else (1, 1)
        for size in reversed(shape):
            if left == 1 and size > 1 and chunks:
                left, stride = chunks.pop()
            if left % size:
                return None
            strides.append(stride)
            left, stride = left // size, stride * size
        return View(self.source, tuple(shape), tuple(reversed(strides)), self.offset)

    @property
    def in_order(self) -> bool:
        """Whether the numbers lie one after the other in the order of the tensor."""
        near = row_by_row(self.shape)
        return all(a == b for size, a, b in zip(self.shape, self.strides, near, strict=True) if size > 1)

    def covers(self, numbers: int) -> bool:
        """Whether each of so many numbers of the buffer is there once."""
        return self.offset == 0 and math.prod(self.shape) == numbers and self.permuted(self.by_stride).in_order

    @property
    def by_stride(self) -> list[int]:
        """The axes from the farthest apart to the closest."""
        return sorted(range(len(self.shape)), key=lambda axis: -abs(self.strides[axis]))


def whole(source: int, shape: Shape) -> View:
    return View(source, tuple(shape), row_by_row(shape))


def row_by_row(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor whose numbers lie in its own order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def walk(shape: Shape, *strides: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Extents and the strides of each, with axes merged where all lie together, filled up to :data:`MOST_AXES`.

    Raises ValueError when more axes are left.
    """
    merged: list[list[int]] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if merged and all(far == size * near for far, near in zip(merged[-1][1:], steps, strict=True)):
            merged[-1] = [merged[-1][0] * size, *steps]
        else:
            merged.append([size, *steps])
    if len(merged) > MOST_AXES:
        raise ValueError(f"a tensor of shape {shape} has more than {MOST_AXES} axes that cannot be merged")
    filled = [[1, *[0] * len(strides)]] * (MOST_AXES - len(merged)) + merged
    return tuple(tuple(column) for column in zip(*filled, strict=True))


def _merged(shape: Shape, strides: Sequence[int]) -> list[tuple[int, int]]:
    """Size and stride of axes, those that lie together as one."""
    chunks: list[tuple[int, int]] = []
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if chunks and chunks[-1][1] == size * stride:
            chunks[-1] = (chunks[-1][0] * size, stride)
        else:
            chunks.append((size, stride))
    return chunks
