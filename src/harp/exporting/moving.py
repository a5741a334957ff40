"""What moves the numbers of a tensor: other shapes and orders, and parts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harp.exporting.draft import Draft, UnsupportedError, Value
from harp.exporting.padding import padded

aten = torch.ops.aten


def reshape(draft: Draft, value: Value, *where: Any) -> Value:
    """Whatever leaves the numbers in their order. A node where its result is read; in between torch may see it as it likes."""
    for inner in (False, True) if draft.view.merged else (False,):
        seen = replace(draft.view, number=value.number, inner=inner)
        if seen.before == value.before:
            return seen
    raise UnsupportedError("it mixes the images of a batch")


def unchanged(draft: Draft, value: Value, *how: Any) -> Value:
    if draft.shape != value.shape:
        raise UnsupportedError(f"it makes {draft.shape} of {value.shape}")
    return value


def _permute(draft: Draft, value: Value, dims: Sequence[int]) -> Value:
    order = [dim % value.rank for dim in dims]
    axes = [
        value.batch if dim == value.batch else value.axis(dim) for dim in order if dim != value.batch or value.merged
    ]
    return draft.permuted(value, axes)


def _transpose(draft: Draft, value: Value, first: int, second: int) -> Value:
    order = list(range(value.rank))
    order[first], order[second] = order[second], order[first]
    return _permute(draft, value, order)


def _moved(rank: int, source: Sequence[int], destination: Sequence[int]) -> list[int]:
    """The order of dimensions after torch.movedim."""
    sizes = torch.empty(tuple(range(1, rank + 1)), device="meta")
    return [size - 1 for size in sizes.movedim(tuple(source), tuple(destination)).shape]


def _expand(draft: Draft, value: Value, *how: Any) -> Value:
    if draft.shape == value.shape:
        return value
    return draft.add("expand", value, attributes={"shape": draft.shape})


def _copy(draft: Draft, into: Any, source: Value | Tensor, *how: Any) -> Value:
    """What is written over all of a tensor."""
    if isinstance(source, Value):
        return _expand(draft, source)
    raise UnsupportedError("it writes a constant over what depends on the image")


def _repeat(draft: Draft, value: Value, repeats: Sequence[int]) -> Value:
    """Whole copies after each other."""
    times = list(repeats)
    before = len(times) - value.rank
    if before and any(time != 1 for time in times[:before]):
        raise UnsupportedError("it repeats a tensor along new dimensions")
    for dim, time in enumerate(times[before:]):
        if type(time) is not int or time != 1:
            axis = value.axis(dim)
            value = draft.taken(value, axis, list(range(value.shape[axis])) * int(time))
    return draft.reshaped(value, draft.shape)


def _repeat_interleave(draft: Draft, value: Value, repeats: int, dim: int | None, size: int | None) -> Value:
    if dim is None or not isinstance(repeats, int):
        raise UnsupportedError("it repeats no dimension, or each entry its own number of times")
    axis = value.axis(dim)
    return draft.taken(value, axis, [i for i in range(value.shape[axis]) for _ in range(repeats)])


# Parts


def _slice(
    draft: Draft, value: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    if draft.shape == value.shape:
        return value
    axis = value.axis(dim)
    return draft.taken(value, axis, list(range(value.shape[axis]))[start:end:step])


def _select(draft: Draft, value: Value, dim: int, index: int) -> Value:
    axis = value.axis(dim)
    return draft.reshaped(draft.taken(value, axis, [index % value.shape[axis]]), draft.shape)


def _unbind(draft: Draft, value: Value, dim: int = 0) -> tuple[Value, ...]:
    axis = value.axis(dim)
    shape = (*value.shape[:axis], *value.shape[axis + 1 :])
    return tuple(draft.reshaped(draft.taken(value, axis, [i]), shape) for i in range(value.shape[axis]))


def _split_with_sizes(draft: Draft, value: Value, sizes: Sequence[int], dim: int = 0) -> tuple[Value, ...]:
    axis = value.axis(dim)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(draft.taken(value, axis, range(s, s + size)) for s, size in zip(starts, sizes, strict=True))


def _split(draft: Draft, value: Value, size: int, dim: int = 0) -> tuple[Value, ...]:
    whole = value.shape[value.axis(dim)]
    return _split_with_sizes(draft, value, [min(size, whole - start) for start in range(0, whole, size)], dim)


def _chunk(draft: Draft, value: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return _split(draft, value, -(-value.shape[value.axis(dim)] // chunks), dim)


def _index_select(draft: Draft, value: Value, dim: int, index: Tensor) -> Value:
    return draft.taken(value, value.axis(dim), index.flatten().tolist())


def _index(draft: Draft, value: Value, indices: Sequence[Tensor | None]) -> Value:
    """x[…, index, …]: constant indices of dimensions beside each other."""
    used = [dim for dim, index in enumerate(indices) if index is not None]
    if any(isinstance(indices[dim], Value) for dim in used) or used != list(range(used[0], used[-1] + 1)):
        raise UnsupportedError("its indices depend on the image, or are of dimensions apart")
    axes = [value.axis(dim) for dim in used]
    sizes = [value.shape[axis] for axis in axes]
    places = torch.broadcast_tensors(*[_whole(indices[dim]) for dim in used])
    flat = torch.zeros_like(places[0])
    for place, size in zip(places, sizes, strict=True):
        flat = flat * size + place % size
    first = axes[0]
    merged = draft.reshaped(value, (*value.shape[:first], math.prod(sizes), *value.shape[axes[-1] + 1 :]))
    return draft.reshaped(draft.taken(merged, first, flat.flatten().tolist()), draft.shape)


def _whole(index: Tensor | None) -> Tensor:
    assert index is not None
    if index.dtype == torch.bool:
        if index.dim() != 1:
            raise UnsupportedError("its index is a mask of several dimensions")
        return index.nonzero()[:, 0]
    return index


def _flip(draft: Draft, value: Value, dims: Sequence[int]) -> Value:
    for dim in dims:
        axis = value.axis(dim)
        value = draft.taken(value, axis, list(range(value.shape[axis]))[::-1])
    return value


def _roll(draft: Draft, value: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    if len(shifts) != len(dims):
        raise UnsupportedError("it rolls a flattened tensor")
    for shift, dim in zip(shifts, dims, strict=True):
        axis = value.axis(dim)
        size = value.shape[axis]
        value = draft.taken(value, axis, [(i - shift) % size for i in range(size)])
    return value


def _unfold(draft: Draft, value: Value, dim: int, size: int, step: int) -> Value:
    """Windows along a dimension, each as a new last one."""
    axis = value.axis(dim)
    starts = range(0, value.shape[axis] - size + 1, step)
    windows = draft.taken(value, axis, [start + i for start in starts for i in range(size)])
    apart = draft.reshaped(windows, (*value.shape[:axis], len(starts), size, *value.shape[axis + 1 :]))
    order = [i for i in range(len(apart.shape)) if i != axis + 1]
    return draft.permuted(apart, [*order, axis + 1])


def _im2col(
    draft: Draft,
    value: Value,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Value:
    """F.unfold: the window around each position as channels."""
    need_map(value)
    x = padded(draft, value, [(0, 0), *((pad, pad) for pad in padding)])
    counts = []
    for axis, (size, reach, step) in enumerate(zip(kernel, dilation, stride, strict=True)):
        place = 1 + 2 * axis
        starts = range(0, x.shape[place] - reach * (size - 1), step)
        counts.append(len(starts))
        x = draft.taken(x, place, [start + reach * i for i in range(size) for start in starts])
        x = draft.reshaped(x, (*x.shape[:place], size, len(starts), *x.shape[place + 1 :]))
    return draft.reshaped(draft.permuted(x, [0, 1, 3, 2, 4]), draft.shape)


def need_map(value: Value) -> None:
    if not value.is_map:
        raise UnsupportedError(f"its input has the shape {value.shape} for each image: expected (c, h, w)")


# Between channels and positions


def pixel_shuffle(draft: Draft, value: Value, factor: int) -> Value:
    need_map(value)
    return draft.reshaped(interleaved(draft, value, (factor, factor)), draft.shape)


def interleaved(draft: Draft, value: Value, factors: tuple[int, int]) -> Value:
    """Channels (c, fy, fx) of a map to the positions y · fy and x · fx that they stand for, as (c, h, fy, w, fx)."""
    down, across = factors
    channels, height, width = value.shape
    apart = draft.reshaped(value, (channels // (down * across), down, across, height, width))
    return draft.permuted(apart, [0, 3, 1, 4, 2])


def _pixel_unshuffle(draft: Draft, value: Value, factor: int) -> Value:
    need_map(value)
    channels, height, width = value.shape
    apart = draft.reshaped(value, (channels, height // factor, factor, width // factor, factor))
    return draft.reshaped(draft.permuted(apart, [0, 2, 4, 1, 3]), draft.shape)


def _channel_shuffle(draft: Draft, value: Value, groups: int) -> Value:
    each = value.shape[0] // groups
    return draft.taken(value, value.axis(1), [group * each + i for i in range(each) for group in range(groups)])


MOVING: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((aten.view, aten._unsafe_view, aten.reshape, aten.flatten, aten.squeeze, aten.unsqueeze), reshape),
    **dict.fromkeys((aten.unflatten, aten.view_copy), reshape),
    **dict.fromkeys((aten.clone, aten.contiguous, aten._to_copy, aten.to, aten.alias, aten.detach), unchanged),
    **dict.fromkeys((aten.lift_fresh_copy, aten.dropout), unchanged),
    aten.permute: _permute,
    aten.transpose: _transpose,
    aten.swapaxes: _transpose,
    aten.movedim: lambda draft, value, source, to: _permute(draft, value, _moved(value.rank, source, to)),
    aten.expand: _expand,
    aten.expand_as: _expand,
    aten.copy: _copy,
    aten.repeat: _repeat,
    aten.tile: _repeat,
    aten.repeat_interleave: _repeat_interleave,
    aten.slice: _slice,
    aten.narrow: lambda draft, value, dim, start, length: _slice(draft, value, dim, start, start + length),
    aten.select: _select,
    aten.unbind: _unbind,
    aten.split_with_sizes: _split_with_sizes,
    aten.split: _split,
    aten.chunk: _chunk,
    aten.index_select: _index_select,
    aten.index: _index,
    aten.flip: _flip,
    aten.roll: _roll,
    aten.unfold: _unfold,
    aten.im2col: _im2col,
    aten.pixel_shuffle: pixel_shuffle,
    aten.pixel_unshuffle: _pixel_unshuffle,
    aten.channel_shuffle: _channel_shuffle,
}
