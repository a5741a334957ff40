"""What torch's operations are in a graph: one row each, by their names in ATen.

A handler is given the draft and the operation's arguments in the order of its schema. Arguments that are computed from
the image are `Value`; tensors are constants.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harp.exporting.activations import ACTIVATING
from harp.exporting.arithmetic import add, divide, extreme, multiply, negate, scaled, subtract, subtract_from
from harp.exporting.draft import Draft, UnsupportedError, Value
from harp.exporting.joining import JOINING
from harp.exporting.moving import MOVING, need_map
from harp.exporting.padding import PADDING, padded
from harp.exporting.products import PRODUCTS, RESAMPLING, resampling
from harp.exporting.rows import ROWS

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
    if value.merged and value.batch == 0 and len(value.shape) == 4 and not isinstance(padding, str):
        return _conv_of_windows(draft, value, (weight, bias), _pair(stride), _pair(padding), _pair(dilation), groups)
    need_map(value)
    if isinstance(padding, str):
        value, padding = _padded_by_name(draft, value, padding, weight.shape[2:], _pair(dilation))
    how = {"stride": _pair(stride), "padding": _pair(padding), "dilation": _pair(dilation), "groups": groups}
    return draft.add("conv", value, tensors={"weight": weight, "bias": bias}, attributes=how)


def _conv_of_windows(
    draft: Draft,
    value: Value,
    weights: tuple[Tensor, Tensor | None],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Value:
    """Of several maps of each image: below each other with their padding in between, as one map."""
    count, channels, height, width = value.shape
    tall = draft.permuted(value, [1, 0, 2, 3])
    tall = padded(draft, tall, [(0, 0), (0, 0), (padding[0], padding[0]), (0, 0)])
    each = height + 2 * padding[0]
    map_ = draft.reshaped(tall, (channels, count * each, width))
    outputs, result_height, result_width = draft.shape[1:]
    reach = dilation[0] * (weights[0].shape[2] - 1)
    rows = count * each - reach
    how = {"stride": (1, stride[1]), "padding": (0, padding[1]), "dilation": dilation, "groups": groups}
    shape = (outputs, rows, result_width)
    made = draft.add("conv", map_, shape=shape, tensors={"weight": weights[0], "bias": weights[1]}, attributes=how)
    wanted = [window * each + row * stride[0] for window in range(count) for row in range(result_height)]
    made = draft.reshaped(draft.taken(made, 1, wanted), (outputs, count, result_height, result_width))
    return draft.permuted(made, [1, 0, 2, 3])


def _padded_by_name(
    draft: Draft, value: Value, name: str, kernel: Sequence[int], dilation: Pair
) -> tuple[Value, Sequence[int]]:
    """The padding that torch names ``valid`` or ``same``; where it is more on one side, that side gets it before."""
    if name == "valid":
        return value, (0, 0)
    both = [reach * (size - 1) for size, reach in zip(kernel, dilation, strict=True)]
    value = padded(draft, value, [(0, 0), *((0, pad % 2) for pad in both)])
    return value, [pad // 2 for pad in both]


def _need_constant(*tensors: Tensor | Value | None) -> None:
    if any(isinstance(tensor, Value) for tensor in tensors):
        raise UnsupportedError("its weights depend on the image")


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
    return _pool(draft, value, "max_pool", {**_window(kernel, stride, padding), "ceil": ceil})


def _pool(draft: Draft, value: Value, op: str, how: Mapping[str, Any]) -> Value:
    """Of a map, or of several of each image: to a window on one channel these are so many more channels."""
    if value.merged and value.batch == 0 and len(value.shape) == 4:
        channels = value.shape[0] * value.shape[1]
        one = draft.reshaped(value, (channels, *value.shape[2:]))
        made = draft.add(op, one, shape=(channels, *draft.shape[2:]), attributes=how)
        return draft.reshaped(made, draft.shape)
    need_map(value)
    return draft.add(op, value, attributes=how)


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
    if divisor is not None and ceil:
        raise UnsupportedError(f"it has divisor_override={divisor} and ceil_mode: expected one of them")
    how = {**_window(kernel, stride, padding), "ceil": ceil, "count_padding": count_padding or divisor is not None}
    made = _pool(draft, value, "avg_pool", how)
    height, width = how["kernel"]
    return made if divisor is None else scaled(draft, made, height * width / divisor)


def _avg_pool_of_rows(
    draft: Draft,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    count_padding: bool,
) -> Value:
    """Along the last axis of (c, l): of a map of one row."""
    if value.batch != 0 or value.merged or len(value.shape) != 2:
        raise UnsupportedError(f"its input has the shape {value.shape} for each image: expected (c, l)")
    sides = {"kernel": (1, kernel[0]), "stride": (1, (stride or kernel)[0]), "padding": (0, padding[0])}
    how = {**sides, "ceil": ceil, "count_padding": count_padding}
    channels, length = draft.shape
    row = draft.reshaped(value, (value.shape[0], 1, value.shape[1]))
    return draft.reshaped(draft.add("avg_pool", row, shape=(channels, 1, length), attributes=how), draft.shape)


def _window(kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> dict[str, Pair]:
    return {"kernel": _pair(kernel), "stride": _pair(stride or kernel), "padding": _pair(padding)}


def _adaptive_avg_pool(draft: Draft, value: Value, size: Sequence[int]) -> Value:
    need_map(value)
    return draft.add("adaptive_avg_pool", value, attributes={"size": _pair(size)})


def _adaptive_max_pool(draft: Draft, value: Value, size: Sequence[int]) -> tuple[Value, None]:
    """As windows of one size, which a map divides into where its sides are multiples."""
    height, width = (side // wanted for side, wanted in zip(value.shape[1:], _pair(size), strict=True))
    if value.shape[1:] != (height * size[0], width * _pair(size)[1]):
        raise UnsupportedError(f"it divides {value.shape[1:]} into {tuple(size)}: expected sides that are multiples")
    how = {**_window((height, width), (), (0, 0)), "ceil": False}
    return draft.add("max_pool", value, attributes=how), None


def _pair(sizes: Sequence[int]) -> Pair:
    height, width = sizes if len(sizes) == 2 else (sizes[0], sizes[0])
    return int(height), int(width)


def _add_product(draft: Draft, value: Any, first: Any, second: Any, factor: float | int = 1) -> Value:
    return add(draft, value, multiply(draft, first, second), factor)


OPERATIONS: Mapping[Any, Callable[..., Any]] = {
    **MOVING,
    **JOINING,
    **PADDING,
    **ACTIVATING,
    **ROWS,
    **PRODUCTS,
    aten.conv2d: _conv,
    aten.avg_pool1d: _avg_pool_of_rows,
    aten.max_pool2d: _max_pool,
    aten.max_pool2d_with_indices: lambda draft, value, *how: (_max_pool(draft, value, *how), None),
    aten.avg_pool2d: _avg_pool,
    aten.adaptive_avg_pool2d: _adaptive_avg_pool,
    aten.adaptive_max_pool2d: _adaptive_max_pool,
    aten.add: add,
    aten.sub: subtract,
    aten.rsub: subtract_from,
    aten.neg: negate,
    aten.mul: multiply,
    aten.div: divide,
    aten.addcmul: _add_product,
    aten.maximum: extreme("maximum"),
    aten.minimum: extreme("minimum"),
}
"""By the name without the overload. Dropout is not here: in eval mode a trace leaves it out."""
WITH_TARGET = {getattr(aten, name): resampling for name in RESAMPLING}
"""Operations that torch itself is asked about; each gives the handler of a target."""
