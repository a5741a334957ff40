"""Where each value lies in one block of memory: a place is given again once nobody reads what was there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harp.runtime.lowering import Layer

IMAGE, RESULT = -1, -2
"""Places that are the caller's."""
_ELEMENTWISE = ("activation", "affine", "add", "mul", "softmax")
"""Result i needs of its inputs nothing that an earlier result has overwritten."""


@dataclass(frozen=True)
class Arena:
    """In floats. ``places`` has one entry per value: where it begins, or :data:`IMAGE`, or :data:`RESULT`."""

    size: int
    places: tuple[int, ...]
    scratch: dict[int, int]
    """By layer, where the channel begins that it halves."""


@dataclass
class _Buffer:
    size: int
    first: int
    values: list[int] = field(default_factory=list)
    last: int = 0
    """The layer that reads it last."""


def plan(layers: Sequence[Layer], sizes: Sequence[int], scratch: dict[int, int]) -> Arena:
    """Places for values of these ``sizes``; layer i also needs ``scratch[i]`` floats while it runs.

    A sum is written over one of its terms, and a convolution over its residual, where nobody needs that any more.
    """
    last = _last_readers(layers)
    buffers: list[_Buffer] = []
    holder: list[int] = [IMAGE]
    for place, layer in enumerate(layers):
        value = place + 1
        if place == len(layers) - 1:
            holder.append(RESULT)
            continue
        shared = _shared(layer, place, holder, buffers, sizes, last)
        if shared is None:
            shared = len(buffers)
            buffers.append(_Buffer(sizes[value], place))
        holder.append(shared)
        if shared >= 0:
            buffers[shared].values.append(value)
            buffers[shared].last = max(buffers[shared].last, place, last[value])
    extra = [_Buffer(size, place, last=place) for place, size in scratch.items()]
    offsets = _best([*buffers, *extra])
    places = tuple(offsets[held] if held >= 0 else held for held in holder)
    ends = [offset + buffer.size for offset, buffer in zip(offsets, [*buffers, *extra], strict=True)]
    return Arena(max(ends, default=0), places, dict(zip(scratch, offsets[len(buffers) :], strict=True)))


def in_place(layer: Layer) -> tuple[int, ...]:
    """The values over which a layer can write its result."""
    if layer.residual >= 0:
        return () if layer.residual in layer.inputs else (layer.residual,)
    return layer.inputs if layer.kind in _ELEMENTWISE else ()


def _last_readers(layers: Sequence[Layer]) -> list[int]:
    last = [-1] * (len(layers) + 1)
    for place, layer in enumerate(layers):
        for value in (*layer.inputs, layer.residual):
            if value >= 0:
                last[value] = place
    return last


def _shared(
    layer: Layer, place: int, holder: list[int], buffers: list[_Buffer], sizes: Sequence[int], last: list[int]
) -> int | None:
    """The buffer that a result can share with an earlier value; None: it needs one of its own."""
    if layer.kind == "flatten":  # the same numbers in the same order
        return holder[layer.inputs[0]]
    read = {holder[value] for value in layer.inputs}
    for value in in_place(layer):
        held = holder[value]
        free = held >= 0 and all(last[other] <= place for other in buffers[held].values)
        if free and sizes[value] == sizes[place + 1] and (layer.residual < 0 or held not in read):
            return held
    return None


def _best(buffers: Sequence[_Buffer]) -> list[int]:
    """Offsets from the better of two orders: large ones first, or as they come."""
    orders: list[Callable[[int], tuple[int, int]]] = [
        lambda i: (-buffers[i].size, buffers[i].first),
        lambda i: (buffers[i].first, -buffers[i].size),
    ]
    found = [_offsets(buffers, sorted(range(len(buffers)), key=order)) for order in orders]
    return min(found, key=lambda offsets: max((o + b.size for o, b in zip(offsets, buffers, strict=True)), default=0))


def _offsets(buffers: Sequence[_Buffer], order: list[int]) -> list[int]:
    """Each at the lowest offset where it meets none of those that are there at the same time."""
    offsets = [-1] * len(buffers)
    for number in order:
        own = buffers[number]
        there = [i for i in range(len(buffers)) if offsets[i] >= 0]
        there = [i for i in there if buffers[i].first <= own.last and own.first <= buffers[i].last]
        offset = 0
        for other in sorted(there, key=lambda i: offsets[i]):
            if offset + own.size <= offsets[other]:
                break
            offset = max(offset, offsets[other] + buffers[other].size)
        offsets[number] = offset
    return offsets
