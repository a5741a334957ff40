"""Operations that compute with numbers, in the forms that the engine runs them on."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from harp.runtime.forms import Forms, Writer
from harp.runtime.graph import ACTIVATIONS, Node, Shape
from harp.runtime.packing import array_of
from harp.runtime.views import View, walk, whole

_ON_MAPS = ("max_pool", "avg_pool", "adaptive_avg_pool")
_PAIRS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "maximum": "maximum",
    "minimum": "minimum",
}


def per_channel(a: Shape, b: Shape) -> bool:
    """Whether a sum of these runs on maps: of equal shapes, or one has one number per channel."""
    alone = [(shape[0], 1, 1) for shape in (a, b)]
    return a == b or (len(a) == 3 == len(b) and (b == alone[0] or a == alone[1]))


# On maps


def _on_map(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    number = writer.emit(node.op, (writer.exact_map(value),), shape, node.attributes, node.tensors)
    return Forms(shape, {0: number})


def _conv(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    """With the zeros that a padding puts around its input as padding of its own: more on one side is a larger kernel."""
    if value.unpadded is None or value.maps or value.view is not None:
        return _on_map(writer, node, shape, value)
    inside, before, after = value.unpadded
    margins = []
    for first, last, reach in zip(before[1:], after[1:], node.attributes["dilation"], strict=True):
        if abs(first - last) % reach:
            return _on_map(writer, node, shape, value)
        margins.append((max(0, last - first) // reach, max(0, first - last) // reach))
    padding = tuple(
        own + max(first, last)
        for own, first, last in zip(node.attributes["padding"], before[1:], after[1:], strict=True)
    )
    how = {**node.attributes, "padding": padding, "margins": tuple(margins)}
    return Forms(shape, {0: writer.emit("conv", (writer.exact_map(inside),), shape, how, node.tensors)})


def _along_channels(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    """A softmax or affine along the first axis."""
    number = writer.map_of(value, 0)
    made = writer.emit(node.op, (number,), writer.shapes[number], node.attributes, node.tensors)
    return Forms(shape, {0: made})


def _linear(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    """Along the last axis; each position of the others is one of a map's."""
    axis = len(shape) - 1
    number = writer.map_of(value, axis)
    if axis == 0:
        return Forms(shape, {0: writer.emit("linear", (number,), shape, {}, node.tensors)})
    made = _product(writer, number, {**node.tensors, "weight": _as_kernel(node.tensors["weight"])})
    return Forms(shape, {axis: made})


def _resample(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    axis = node.attributes["axis"]
    made = _product(writer, writer.map_of(value, axis), {"weight": _as_kernel(node.tensors["matrix"])})
    return Forms(shape, {axis: made})


def _product(writer: Writer, number: int, tensors: dict[str, Any]) -> int:
    how = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    positions = (*writer.shapes[number][1:], 1, 1)[:2]
    return writer.emit("conv", (number,), (tensors["weight"].shape[0], *positions), how, tensors)


def _as_kernel(weight: Any) -> Any:
    shape = (*weight.shape, 1, 1)
    return weight.reshape(shape) if isinstance(weight, np.ndarray) else replace(weight, shape=shape)


# One number at a time


def _activation(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    if value.maps:
        axis, number = next(iter(value.maps.items()))
        return Forms(shape, {axis: writer.emit(node.op, (number,), writer.shapes[number], node.attributes)})
    view = writer.view_of(value)
    if not view.covers(math.prod(writer.shapes[view.source])):
        view = writer.in_order(view)
    made = writer.emit("elementwise", (view.source,), writer.shapes[view.source], {"activation": node})
    return Forms(shape, view=replace(view, source=made))


def _affine_last(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    axis = len(shape) - 1
    if axis in value.maps:
        number = value.maps[axis]
        return Forms(shape, {axis: writer.emit("affine", (number,), writer.shapes[number], {}, node.tensors)})
    view = writer.view_of(value)
    for how, name, neutral in (("multiply", "scale", 1), ("add", "shift", 0)):
        numbers = node.tensors[name]
        if not _is_all(numbers, neutral):
            view = _pairwise(writer, how, view, writer.constant(numbers), shape)
    return Forms(shape, view=view)


def _is_all(numbers: Any, neutral: int | float) -> bool:
    return bool(np.all(array_of(numbers) == neutral))


def _pair(writer: Writer, node: Node, shape: Shape, first: Forms, second: Forms) -> Forms:
    made = _pair_of_maps(writer, node, shape, first, second) if node.op in ("add", "mul") else None
    if made is not None:
        return made
    return Forms(shape, view=_pairwise(writer, _PAIRS[node.op], writer.view_of(first), writer.view_of(second), shape))


def _pair_of_maps(writer: Writer, node: Node, shape: Shape, first: Forms, second: Forms) -> Forms | None:
    if not per_channel(first.shape, second.shape):
        return None
    if first.shape != second.shape:
        larger = first if first.shape == shape else second
        if 0 not in larger.maps:
            return None
        return Forms(shape, {0: writer.emit(node.op, (writer.exact_map(first), writer.exact_map(second)), shape)})
    shared = [axis for axis in first.maps if axis in second.maps]
    for axis in (*shared, *first.maps, *second.maps):
        form = writer.shapes[first.maps[axis] if axis in first.maps else second.maps[axis]]
        numbers = writer.map_like(first, axis, form), writer.map_like(second, axis, form)
        return Forms(shape, {axis: writer.emit(node.op, numbers, form)})
    return None


def _pairwise(writer: Writer, how: str, first: View, second: View, shape: Shape) -> View:
    """The result lies in memory as the larger of the two does."""
    lead = first if math.prod(first.shape) >= math.prod(second.shape) else second
    order = lead.expanded(shape).by_stride
    a, b = first.expanded(shape).permuted(order), second.expanded(shape).permuted(order)
    extents, near, far = walk(a.shape, a.strides, b.strides)
    numbers = (*extents, a.offset, *near, b.offset, *far)
    made = writer.tensor("pairwise", (a.source, b.source), a.shape, how=how, numbers=numbers)
    return made.permuted([order.index(axis) for axis in range(len(shape))])


# Rows


def _layer_norm(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    axis = len(shape) - 1
    if node.attributes["axes"] == 1 and axis in value.maps:
        number = value.maps[axis]
        made = writer.emit("normalise", (number,), writer.shapes[number], node.attributes, node.tensors)
        return Forms(shape, {axis: made})
    count = math.prod(shape[len(shape) - node.attributes["axes"] :])
    return Forms(shape, view=_rows(writer, "rows_normalise", value, shape, node, count))


def _group_norm(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    count = math.prod(shape) // node.attributes["groups"]
    plain = replace(node, tensors={})
    made = Forms(shape, view=_rows(writer, "rows_normalise", value, shape, plain, count))
    if not node.tensors:
        return made
    channels = shape[0]
    held = {
        "scale": node.tensors.get("scale", np.ones(channels, np.float32)),
        "shift": node.tensors.get("shift", np.zeros(channels, np.float32)),
    }
    number = writer.exact_map(made) if len(shape) == 3 else writer.map_of(made, 0)
    return Forms(shape, {0: writer.emit("affine", (number,), writer.shapes[number], {}, held)})


def _softmax_last(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    return Forms(shape, view=_rows(writer, "rows_softmax", value, shape, node, shape[-1]))


def _reduce(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    return Forms(shape, view=_rows(writer, "rows_reduce", value, shape, node, value.shape[-1]))


def _rows(writer: Writer, op: str, value: Forms, shape: Shape, node: Node, count: int) -> View:
    view = writer.in_order(writer.view_of(value))
    made = writer.emit(op, (view.source,), (1, math.prod(shape)), {**node.attributes, "count": count}, node.tensors)
    return whole(made, shape)


def _matmul(writer: Writer, node: Node, shape: Shape, first: Forms, second: Forms) -> Forms:
    """Of views: a factor may be transposed, or a part of something, for nothing."""
    batch, (rows, columns), steps = shape[:-2], shape[-2:], first.shape[-1]
    a = writer.view_of(first).expanded((*batch, rows, steps))
    b = writer.view_of(second).expanded((*batch, steps, columns))
    extents, far, near = walk(batch, a.strides[:-2], b.strides[:-2])
    assert math.prod(extents[:-4]) == 1
    sides = (*extents[-4:], rows, columns, steps)
    numbers = (*sides, a.offset, *far[-4:], *a.strides[-2:], b.offset, *near[-4:], *b.strides[-2:])
    view = writer.tensor("matmul", (a.source, b.source), shape, numbers=numbers, values=(node.attributes["factor"],))
    return Forms(shape, view=view)


COMPUTED: dict[str, Callable[..., Forms]] = {
    **dict.fromkeys(ACTIVATIONS, _activation),
    **dict.fromkeys(_ON_MAPS, _on_map),
    **dict.fromkeys(_PAIRS, _pair),
    "conv": _conv,
    "softmax": _along_channels,
    "affine": _along_channels,
    "linear": _linear,
    "resample": _resample,
    "affine_last": _affine_last,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "softmax_last": _softmax_last,
    "reduce": _reduce,
    "matmul": _matmul,
}
