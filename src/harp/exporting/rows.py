"""Normalisations, softmax and reductions: what looks at many numbers of one image at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harp.exporting.arithmetic import affine, affine_last, multiply, scaled, subtract
from harp.exporting.draft import Draft, UnsupportedError, Value

aten = torch.ops.aten
Operand = Value | Tensor


def need_constant(*tensors: Tensor | Value | None) -> None:
    if any(isinstance(tensor, Value) for tensor in tensors):
        raise UnsupportedError("its weights depend on the image")


# Normalisations


def _batch_norm(
    draft: Draft,
    value: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Value]:
    need_constant(weight, bias, mean, variance)
    scale = (variance.double() + eps).rsqrt() * (1 if weight is None else weight.double())
    shift = (0 if bias is None else bias.double()) - mean.double() * scale
    axis = value.axis(1)
    if axis > 0 and axis == len(value.shape) - 1:
        return (affine_last(draft, value, scale, shift),)
    order = [axis, *(i for i in range(len(value.shape)) if i != axis)]
    made = affine(draft, draft.permuted(value, order), scale, shift)
    return (draft.permuted(made, [order.index(i) for i in range(len(order))]),)


def _batch_statistics(draft: Draft, value: Value, *how: Any) -> Value:
    raise UnsupportedError("it normalises by the batch that it gets, so that an image's result depends on the others")


def _layer_norm(
    draft: Draft,
    value: Value,
    sizes: Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
    *how: Any,
) -> Value:
    return _normalised(draft, value, len(sizes), (weight, bias), eps, True)


def _native_layer_norm(draft: Draft, value: Value, *how: Any) -> tuple[Value]:
    return (_layer_norm(draft, value, *how),)


def _rms_norm(
    draft: Draft, value: Value, sizes: Sequence[int], weight: Operand | None = None, eps: float | None = None
) -> Value:
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    return _normalised(draft, value, len(sizes), (weight, None), eps, False)


def _normalised(
    draft: Draft, value: Value, axes: int, tensors: tuple[Operand | None, ...], eps: float, centred: bool
) -> Value:
    need_constant(*tensors)
    if value.batch > value.rank - axes - 1:
        raise UnsupportedError("it normalises over the images of a batch")
    held = {
        name: tensor.flatten()
        for name, tensor in zip(("scale", "shift"), tensors, strict=True)
        if isinstance(tensor, Tensor)
    }
    how = {"axes": axes, "eps": float(eps), "centred": centred}
    return draft.add("layer_norm", value, shape=value.shape, tensors=held, attributes=how)


def _group_norm(
    draft: Draft,
    value: Value,
    groups: int,
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
    *how: Any,
) -> Value:
    need_constant(weight, bias)
    if value.batch or value.merged:
        raise UnsupportedError("its first dimension is not that of the images")
    held = {"scale": weight, "shift": bias}
    return draft.add("group_norm", value, tensors=held, attributes={"groups": groups, "eps": float(eps)})  # pyright: ignore[reportArgumentType]


def _instance_norm(
    draft: Draft,
    value: Value,
    weight: Operand | None,
    bias: Operand | None,
    mean: Tensor | None,
    variance: Tensor | None,
    of_image: bool,
    momentum: float,
    eps: float,
    *how: Any,
) -> Value:
    need_constant(weight, bias, mean, variance)
    if of_image or mean is None or variance is None:
        return _group_norm(draft, value, value.shape[0], weight, bias, eps)
    assert not isinstance(weight, Value)
    assert not isinstance(bias, Value)
    return _batch_norm(draft, value, weight, bias, mean, variance, momentum, eps)[0]


# Softmax


def softmax(draft: Draft, value: Value, dim: int, dtype: Any = None) -> Value:
    axis = value.axis(dim)
    rank = len(value.shape)
    if axis == 0 and rank in (1, 3) and not value.batch:
        return draft.add("softmax", value, shape=value.shape)
    if axis == rank - 1:
        return draft.add("softmax_last", value, shape=value.shape)
    order = [*(i for i in range(rank) if i != axis), axis]
    made = draft.permuted(value, order)
    made = draft.add("softmax_last", made, shape=made.shape)
    return draft.permuted(made, [order.index(i) for i in range(rank)])


def _log_softmax(draft: Draft, value: Value, dim: int, dtype: Any = None) -> Value:
    return draft.add("log", softmax(draft, value, dim), shape=value.shape)


# Reductions


def reduced(draft: Draft, value: Value, dims: Sequence[int] | int | None, how: str) -> Value:
    """Over some dimensions, of which one entry stays each."""
    axes = _axes(value, dims)
    rank = len(value.shape)
    order = [*(i for i in range(rank) if i not in axes), *axes]
    made = draft.permuted(value, order)
    count = math.prod(value.shape[axis] for axis in axes)
    rows = draft.reshaped(made, (*made.shape[: rank - len(axes)], count))
    made = draft.add("reduce", rows, shape=(*rows.shape[:-1], 1), attributes={"how": how})
    return draft.reshaped(made, [1 if axis in axes else size for axis, size in enumerate(value.shape)])


def _axes(value: Value, dims: Sequence[int] | int | None) -> list[int]:
    dims = [dims] if isinstance(dims, int) else list(dims or ())
    if not dims:
        raise UnsupportedError("it makes one number of all images")
    return sorted(value.axis(dim) for dim in dims)


def mean(draft: Draft, value: Value, dims: Sequence[int] | None, keepdim: bool = False, dtype: Any = None) -> Value:
    """Of a map over its positions as pooling does it; so for tokens, whose features are the channels."""
    axes = _axes(value, dims)
    rank = len(value.shape)
    kept = [axis for axis in range(rank) if axis not in axes]
    if len(kept) != 1 or rank not in (2, 3):
        return draft.reshaped(reduced(draft, value, dims, "mean"), draft.shape)
    channels = value.shape[kept[0]]
    made = draft.permuted(value, [*kept, *axes])
    if rank == 2:
        made = draft.reshaped(made, (channels, value.shape[axes[0]], 1))
    made = draft.add("adaptive_avg_pool", made, shape=(channels, 1, 1), attributes={"size": (1, 1)})
    return made if draft.shape == made.shape else draft.reshaped(made, draft.shape)


def _reduction(how: str) -> Callable[..., Value]:
    return lambda draft, value, dims=None, *rest: draft.reshaped(reduced(draft, value, dims, how), draft.shape)


def _with_places(how: str) -> Callable[..., tuple[Value, None]]:
    """Of max(dim): the values; nothing that reads the places can be exported."""
    return lambda draft, value, dim, *rest: (draft.reshaped(reduced(draft, value, dim, how), draft.shape), None)


def _norm(draft: Draft, value: Value, order: Any = 2, dims: Sequence[int] | None = None, *rest: Any) -> Value:
    if order is not None and order != 2:
        raise UnsupportedError(f"it is the norm of order {order}: expected 2")
    return draft.reshaped(reduced(draft, value, dims, "norm"), draft.shape)


def variance(draft: Draft, value: Value, dims: Sequence[int] | None, correction: float | int | None) -> Value:
    axes = _axes(value, dims)
    count = math.prod(value.shape[axis] for axis in axes)
    apart = subtract(draft, value, _like(value, reduced(draft, value, dims, "mean")))
    squares = multiply(draft, _like(value, apart), _like(value, apart))
    made = reduced(draft, _like(value, squares), dims, "mean")
    less = 1 if correction is None else correction
    return scaled(draft, made, count / max(count - less, 1e-30))


def _like(value: Value, made: Value) -> Value:
    """With its images where they were."""
    return Value(made.number, made.shape, value.batch, value.merged)


def _var(draft: Draft, value: Value, dims: Sequence[int] | None = None, correction: Any = 1, *rest: Any) -> Value:
    correction = int(correction) if isinstance(correction, bool) else correction
    return draft.reshaped(variance(draft, value, dims, correction), draft.shape)


def _std(draft: Draft, value: Value, *how: Any) -> Value:
    made = _var(draft, value, *how)
    return draft.add("sqrt", made, shape=made.shape)


ROWS: Mapping[Any, Callable[..., Any]] = {
    aten._native_batch_norm_legit_no_training: _batch_norm,
    aten._native_batch_norm_legit: _batch_statistics,
    aten.batch_norm: _batch_statistics,
    aten.layer_norm: _layer_norm,
    aten.native_layer_norm: _native_layer_norm,
    aten.rms_norm: _rms_norm,
    aten.group_norm: _group_norm,
    aten.instance_norm: _instance_norm,
    aten.softmax: softmax,
    aten._softmax: softmax,
    aten.log_softmax: _log_softmax,
    aten.mean: mean,
    aten.sum: _reduction("sum"),
    aten.amax: _reduction("maximum"),
    aten.amin: _reduction("minimum"),
    aten.max: _with_places("maximum"),
    aten.min: _with_places("minimum"),
    aten.linalg_vector_norm: _norm,
    aten.norm: _norm,
    aten.var: _var,
    aten.std: _std,
}
