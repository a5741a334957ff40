"""What stands around the edges of a tensor."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from harp.exporting.draft import Draft, UnsupportedError, Value

aten = torch.ops.aten
_LOWEST = -3e38
"""For minus infinity, which a graph does not hold."""


def padded(draft: Draft, value: Value, widths: Sequence[tuple[int, int]], filling: float = 0.0) -> Value:
    """With so many entries of a filling before and after, for each axis; negative widths cut off."""
    for axis, (before, after) in enumerate(widths):
        if before < 0 or after < 0:
            size = value.shape[axis]
            value = draft.taken(value, axis, range(max(0, -before), size - max(0, -after)))
    before, after = (tuple(max(0, pair[side]) for pair in widths) for side in (0, 1))
    if not any(before) and not any(after):
        return value
    shape = tuple(sum(sizes) for sizes in zip(before, value.shape, after, strict=True))
    how = {"before": before, "after": after, "value": max(float(filling), _LOWEST)}
    return draft.add("pad", value, shape=shape, attributes=how)


def _pad(draft: Draft, value: Value, pad: Sequence[int], mode: str = "constant", filling: float | None = None) -> Value:
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    widths = [(0, 0)] * len(value.shape)
    for place, pair in enumerate(pairs):
        if any(pair):
            widths[value.axis(-1 - place)] = pair
    if mode == "constant":
        return padded(draft, value, widths, filling or 0.0)
    for axis, (before, after) in enumerate(widths):
        value = draft.taken(value, axis, _reflected(value.shape[axis], before, after, mode))
    return value


def _reflected(size: int, before: int, after: int, mode: str) -> list[int]:
    """Which entry stands where, of those beyond the edges too."""
    places = range(-before, size + after)
    if mode == "circular":
        return [place % size for place in places]
    if mode == "replicate":
        return [min(max(place, 0), size - 1) for place in places]
    if mode == "reflect":
        return [abs((place + size - 1) % (2 * size - 2) - size + 1) if size > 1 else 0 for place in places]
    raise UnsupportedError(f"it has mode={mode!r}: expected constant, reflect, replicate or circular")


def _pad_by(mode: str) -> Callable[..., Value]:
    return lambda draft, value, pad, filling=None: _pad(draft, value, pad, mode, filling)


PADDING: Mapping[Any, Callable[..., Any]] = {
    aten.pad: _pad,
    aten.constant_pad_nd: _pad_by("constant"),
    aten.reflection_pad2d: _pad_by("reflect"),
    aten.replication_pad2d: _pad_by("replicate"),
}
