"""Several tensors as one: concatenations, stacks, and tensors written into others."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harp.exporting.draft import Draft, UnsupportedError, Value

aten = torch.ops.aten


def concatenate(draft: Draft, parts: Sequence[Value | Tensor], dim: int = 0) -> Value:
    like = next(part for part in parts if isinstance(part, Value))
    axis = like.axis(dim)
    values = [part if isinstance(part, Value) else _constant_like(draft, part, like, axis) for part in parts]
    values = [value for value in values if value is not None]
    if any((value.rank, value.batch, value.merged) != (like.rank, like.batch, like.merged) for value in values):
        raise UnsupportedError("it mixes the images of a batch")
    if len(values) == 1:
        return values[0]
    if axis == 0 and len(like.shape) in (1, 3):
        return draft.add("concat", *values)
    return draft.add("join", *values, attributes={"axis": axis})


def _constant_like(draft: Draft, tensor: Tensor, like: Value, axis: int) -> Value | None:
    if tensor.numel() == 0:
        return None
    if tensor.dim() != like.rank or like.merged or tensor.shape[like.batch] != 1:
        raise UnsupportedError(f"it appends a constant of shape {tuple(tensor.shape)}, which is not of every image")
    made = draft.constant(tensor.squeeze(like.batch))
    return Value(made.number, made.shape, like.batch)


def _stack(draft: Draft, parts: Sequence[Value | Tensor], dim: int = 0) -> Value:
    like = next(part for part in parts if isinstance(part, Value))
    dim %= like.rank + 1
    if like.merged or not all(isinstance(part, Value) for part in parts):
        raise UnsupportedError("it stacks constants")
    batch = like.batch + (dim <= like.batch)
    axis = dim - (dim > batch)
    shape = (*like.shape[:axis], 1, *like.shape[axis:])
    seen = [Value(part.number, shape, batch) for part in parts if isinstance(part, Value)]
    return concatenate(draft, seen, dim)


def _slice_scatter(
    draft: Draft,
    into: Value | Tensor,
    source: Value | Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """A tensor of which some entries come from another."""
    like = into if isinstance(into, Value) else source
    assert isinstance(like, Value)
    if isinstance(source, Value) and source.shape == draft.shape:
        return source
    axis = like.axis(dim)
    values = [
        part if isinstance(part, Value) else draft.constant(part.expand(1, *part.shape[1:]).squeeze(like.batch))
        for part in (into, source)
    ]
    size = draft.shape[axis]
    inside = list(range(size))[start:end:step]
    place = {entry: values[0].shape[axis] + i for i, entry in enumerate(inside)}
    shape = (*draft.shape[:axis], size + len(inside), *draft.shape[axis + 1 :])
    both = draft.add("join", *values, shape=shape, attributes={"axis": axis})
    return draft.taken(both, axis, [place.get(entry, entry) for entry in range(size)])


def _select_scatter(draft: Draft, into: Value | Tensor, source: Value, dim: int, index: int) -> Value:
    like = into if isinstance(into, Value) else source
    rank = len(draft.shape) + 1
    dim %= rank
    axis = dim - 1
    index %= draft.shape[axis]
    if isinstance(source, Value):
        source = Value(source.number, (*draft.shape[:axis], 1, *draft.shape[axis + 1 :]))
    if like.batch or like.merged or dim == 0:
        raise UnsupportedError("it writes into a tensor whose first dimension is not that of the images")
    return _slice_scatter(draft, into, source, dim, index, index + 1)


JOINING: Mapping[Any, Callable[..., Any]] = {
    aten.cat: concatenate,
    aten.stack: _stack,
    aten.slice_scatter: _slice_scatter,
    aten.select_scatter: _select_scatter,
}
