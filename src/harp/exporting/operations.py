"""What torch's operations are in a graph: one row each, by their names in ATen.

A handler is given the draft and the operation's arguments in the order of its schema. Arguments that are computed from
the image are `Value`; tensors are constants.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harp.exporting.arithmetic import add, affine, divide, multiply, negate, subtract, subtract_from
from harp.exporting.draft import Draft, UnsupportedError, Value

aten = torch.ops.aten
Pair = tuple[int, int]


# Layers


def _conv(
    draft: Draft,
    value: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    _need_constant(weight, bias)
    pads = _padding_of(padding, weight.shape[2:], _pair(dilation)) if isinstance(padding, str) else _pair(padding)
    how = {"stride": _pair(stride), "padding": pads, "dilation": _pair(dilation), "groups": groups}
    return draft.add("conv", value, tensors={"weight": weight, "bias": bias}, attributes=how)


def _padding_of(name: str, kernel: Sequence[int], dilation: Pair) -> Pair:
    """The padding that torch names ``valid`` or ``same``."""
    if name == "valid":
        return (0, 0)
    both = [reach * (size - 1) for size, reach in zip(kernel, dilation, strict=True)]
    if any(pad % 2 for pad in both):
        raise UnsupportedError(f"padding='same' of a {tuple(kernel)} kernel pads one side more than the other")
    return _pair([pad // 2 for pad in both])


def _linear(draft: Draft, value: Value, weight: Tensor, bias: Tensor | None) -> Value:
    if len(value.shape) != 1:
        raise UnsupportedError(f"its input has the shape (n, {_list(value.shape)}): expected (n, features), flattened")
    _need_constant(weight, bias)
    return draft.add("linear", value, tensors={"weight": weight, "bias": bias})


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
    _need_constant(weight, bias, mean, variance)
    scale = (variance.double() + eps).rsqrt() * (1 if weight is None else weight.double())
    return (affine(draft, value, scale, (0 if bias is None else bias.double()) - mean.double() * scale),)


def _need_constant(*tensors: Tensor | Value | None) -> None:
    if any(isinstance(tensor, Value) for tensor in tensors):
        raise UnsupportedError("its weights depend on the image")


# Activations


def _unary(op: str) -> Callable[..., Value]:
    return lambda draft, value: draft.add(op, value)


def _clamp(draft: Draft, value: Value, low: float | int | None = None, high: float | int | None = None) -> Value:
    if low != 0 or high not in (6, None):
        raise UnsupportedError(f"it clamps to ({low}, {high}): expected (0, 6), or (0, None)")
    return draft.add("relu" if high is None else "relu6", value)


def _leaky_relu(draft: Draft, value: Value, slope: float | int) -> Value:
    return draft.add("leaky_relu", value, attributes={"slope": float(slope)})


def _gelu(draft: Draft, value: Value, approximate: str) -> Value:
    return draft.add("gelu", value, attributes={"tanh": approximate == "tanh"})


def _softmax(draft: Draft, value: Value, dim: int, dtype: torch.dtype | None) -> Value:
    _need_channels(dim, value)
    return draft.add("softmax", value)


# Pooling


def _max_pool(
    draft: Draft,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> Value:
    if _pair(dilation) != (1, 1):
        raise UnsupportedError(f"its window has dilation {_pair(dilation)}: expected 1")
    return draft.add("max_pool", value, attributes={**_window(kernel, stride, padding), "ceil": ceil})


def _avg_pool(
    draft: Draft,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    count_padding: bool,
    divisor: int | None,
) -> Value:
    if divisor is not None:
        raise UnsupportedError(f"it has divisor_override={divisor}: expected None")
    how = {**_window(kernel, stride, padding), "ceil": ceil, "count_padding": count_padding}
    return draft.add("avg_pool", value, attributes=how)


def _window(kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> dict[str, Pair]:
    return {"kernel": _pair(kernel), "stride": _pair(stride or kernel), "padding": _pair(padding)}


def _adaptive_avg_pool(draft: Draft, value: Value, size: Sequence[int]) -> Value:
    return draft.add("adaptive_avg_pool", value, attributes={"size": _pair(size)})


def _mean(draft: Draft, value: Value, dim: Sequence[int] | None, keepdim: bool, dtype: torch.dtype | None) -> Value:
    axes = {axis % (len(value.shape) + 1) for axis in dim or ()}
    if len(value.shape) != 3 or axes != {2, 3}:
        raise UnsupportedError(f"it is the mean over dimensions {sorted(axes)}: expected (2, 3), height and width")
    mean = draft.add("adaptive_avg_pool", value, shape=(value.shape[0], 1, 1), attributes={"size": (1, 1)})
    return mean if keepdim else draft.add("flatten", mean)


# Shapes


def _concatenate(draft: Draft, parts: Sequence[Value | Tensor], dim: int) -> Value:
    values = [part for part in parts if isinstance(part, Value)]
    if len(values) < len(parts):
        raise UnsupportedError("it appends a constant")
    _need_channels(dim, values[0])
    return values[0] if len(values) == 1 else draft.add("concat", *values)


def reshape(draft: Draft, value: Value, *where: Any) -> Value:
    """Whatever leaves the numbers in their order. A node when it ends up flat; in between torch may see it as it likes."""
    there = draft.shape_of(value)
    if len(draft.shape) == 1 and len(there) > 1:
        return draft.add("flatten", Value(value.number, there))
    return Value(value.number, draft.shape)


def _select(draft: Draft, value: Value, dim: int, index: int) -> Value:
    if value.shape[dim % (len(value.shape) + 1) - 1] != 1:
        raise UnsupportedError(f"it takes a part along dimension {dim}")
    return reshape(draft, value)


def _unchanged(draft: Draft, value: Value, *how: Any) -> Value:
    if draft.shape != value.shape:
        raise UnsupportedError(f"it makes {draft.shape} of {value.shape}")
    return value


def _need_channels(dim: int, value: Value) -> None:
    if dim % (len(value.shape) + 1) != 1:
        raise UnsupportedError(f"it works along dimension {dim} of (n, {_list(value.shape)}): expected 1, the channels")


def _list(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


def _pair(sizes: Sequence[int]) -> Pair:
    height, width = sizes if len(sizes) == 2 else (sizes[0], sizes[0])
    return int(height), int(width)


OPERATIONS: Mapping[Any, Callable[..., Any]] = {
    aten.conv2d: _conv,
    aten.linear: _linear,
    aten._native_batch_norm_legit_no_training: _batch_norm,
    aten.relu: _unary("relu"),
    aten.hardtanh: _clamp,
    aten.clamp: _clamp,
    aten.clamp_min: _clamp,
    aten.leaky_relu: _leaky_relu,
    aten.sigmoid: _unary("sigmoid"),
    aten.silu: _unary("silu"),
    aten.hardswish: _unary("hardswish"),
    aten.hardsigmoid: _unary("hardsigmoid"),
    aten.gelu: _gelu,
    aten.softmax: _softmax,
    aten.max_pool2d: _max_pool,
    aten.avg_pool2d: _avg_pool,
    aten.adaptive_avg_pool2d: _adaptive_avg_pool,
    aten.mean: _mean,
    aten.add: add,
    aten.sub: subtract,
    aten.rsub: subtract_from,
    aten.neg: negate,
    aten.mul: multiply,
    aten.div: divide,
    aten.cat: _concatenate,
    aten.view: reshape,
    aten._unsafe_view: reshape,  # of a map in channels_last, flattened
    aten.reshape: reshape,
    aten.flatten: reshape,
    aten.squeeze: reshape,
    aten.unsqueeze: reshape,
    aten.select: _select,
    aten.slice: _unchanged,
    aten.expand: _unchanged,
    aten.clone: _unchanged,
    aten.contiguous: _unchanged,
    aten._to_copy: _unchanged,
    aten.to: _unchanged,
    aten.alias: _unchanged,
    aten.detach: _unchanged,
}
"""By the name without the overload. Dropout is not here: in eval mode a trace leaves it out."""
