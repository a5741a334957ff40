"""From operations on values of any shape to the maps and tensors of the engine. Networks of maps alone stay as they are."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harp.runtime.forms import Box, Forms, Writer, seen_as, slots
from harp.runtime.graph import ACTIVATIONS, Graph, Node, Shape
from harp.runtime.packing import Sparse
from harp.runtime.views import View, walk, whole

_ON_MAPS = ("conv", "max_pool", "avg_pool", "adaptive_avg_pool")
_PAIRS = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "maximum": "maximum", "minimum": "minimum"}
_ALWAYS_MAPS = {*_ON_MAPS, *ACTIVATIONS, "linear", "affine", "softmax", "add", "mul", "concat", "flatten"}


def is_of_maps(graph: Graph, shapes: Sequence[Shape]) -> bool:
    """Whether every value is a map or flat, and every operation one that runs on these."""
    for node, result in zip(graph.nodes, shapes[1:], strict=True):
        given = [shapes[value] for value in node.inputs]
        if node.op not in _ALWAYS_MAPS or not all(len(shape) in (1, 3) for shape in (result, *given)):
            return False
        if node.op in ("add", "mul") and not _per_channel(given[0], given[1]):
            return False
        if node.op == "linear" and len(result) > 1:
            return False
    return True


def arrange(graph: Graph, shapes: Sequence[Shape]) -> tuple[Graph, tuple[Shape, ...]]:
    """The graph that the engine runs, and the shapes of its values; see :mod:`harp.runtime.forms`."""
    if is_of_maps(graph, shapes):
        return graph, tuple(shapes)
    writer = Writer(graph.input)
    values = [Forms(graph.input, {0: 0})]
    for node, shape in zip(graph.nodes, shapes[1:], strict=True):
        writer.name = node.name
        handler = _HANDLERS.get(node.op, _activation)
        values.append(handler(writer, node, shape, *(values[value] for value in node.inputs)))
    _finish(writer, values[-1])
    return _without_unread(Graph(graph.input, tuple(writer.nodes)), writer.shapes)


def _without_unread(graph: Graph, shapes: Sequence[Shape]) -> tuple[Graph, tuple[Shape, ...]]:
    read = {len(graph.nodes)}
    for number in range(len(graph.nodes), 0, -1):
        if number in read:
            read.update(graph.nodes[number - 1].inputs)
    order = [number for number in range(1, len(graph.nodes) + 1) if number in read]
    now = {0: 0, **{number: place for place, number in enumerate(order, 1)}}
    nodes = [graph.nodes[number - 1] for number in order]
    nodes = [replace(node, inputs=tuple(now[value] for value in node.inputs)) for node in nodes]
    return Graph(graph.input, tuple(nodes)), (shapes[0], *(shapes[number] for number in order))


def _finish(writer: Writer, result: Forms) -> None:
    """Make the result, in the order of its shape, the value of the last node."""
    if 0 in result.maps and writer.shapes[result.maps[0]] in (result.shape, (*result.shape, 1, 1)):
        number, last = result.maps[0], writer.shapes[result.maps[0]]
        if number != len(writer.nodes):
            writer.emit("channels", (number,), last, {"numbers": tuple(range(last[0]))})
        return
    view = writer.in_order(writer.view_of(result))
    if view.source != len(writer.nodes) or writer.nodes[-1].op == "constant":
        writer.copied((view.source,), view.shape, [(0, view, whole(0, view.shape))])


def _per_channel(a: Shape, b: Shape) -> bool:
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


def _is_all(numbers: Any, neutral: float) -> bool:
    array = numbers.dense() if isinstance(numbers, Sparse) else numbers
    return bool(np.all(np.asarray(array) == neutral))


def _pair(writer: Writer, node: Node, shape: Shape, first: Forms, second: Forms) -> Forms:
    made = _pair_of_maps(writer, node, shape, first, second) if node.op in ("add", "mul") else None
    if made is not None:
        return made
    return Forms(shape, view=_pairwise(writer, _PAIRS[node.op], writer.view_of(first), writer.view_of(second), shape))


def _pair_of_maps(writer: Writer, node: Node, shape: Shape, first: Forms, second: Forms) -> Forms | None:
    if not _per_channel(first.shape, second.shape):
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
        "scale": node.tensors.get("weight", np.ones(channels, np.float32)),
        "shift": node.tensors.get("bias", np.zeros(channels, np.float32)),
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


# Other places


def _constant(writer: Writer, node: Node, shape: Shape) -> Forms:
    return Forms(shape, view=writer.constant(node.tensors["value"]))


def _reshape(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    if node.op == "flatten" and 0 in value.maps and len(value.shape) == 3:
        return Forms(shape, {0: writer.emit("flatten", (writer.exact_map(value),), shape)})

    def make() -> View:
        view = writer.view_of(value)
        return view.reshaped(shape) or whole(writer.in_order(view).source, shape)

    return seen_as(value, shape, make)


def _permute(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    order = node.attributes["order"]
    view = None if value.view is None else value.view.permuted(order)
    maps = {
        order.index(axis): number
        for axis, number in value.maps.items()
        if [i for i in order if i != axis] == [i for i in range(len(order)) if i != axis]
    }
    return Forms(shape, maps, view, lambda: writer.view_of(value).permuted(order))


def _expand(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    return Forms(shape, make=lambda: writer.view_of(value).expanded(shape))


def _take(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    axis, index = node.attributes["axis"], node.attributes["index"]
    if axis in value.maps:
        number = value.maps[axis]
        form = (len(index), *writer.shapes[number][1:])
        return Forms(shape, {axis: writer.emit("channels", (number,), form, {"numbers": index})})
    return Forms(shape, make=lambda: _taken(writer, writer.view_of(value), axis, index, shape))


def _taken(writer: Writer, view: View, axis: int, index: Sequence[int], shape: Shape) -> View:
    found = runs(index)
    if len(found) == 1:
        return view.part(axis, *found[0])
    boxes: list[Box] = []
    place = 0
    for start, step, count in found:
        starts = [place if i == axis else 0 for i in range(len(shape))]
        part = view.part(axis, start, step, count)
        boxes.append((0, part, slots(shape, starts, part.shape)))
        place += count
    return writer.copied((view.source,), shape, boxes)


def runs(index: Sequence[int]) -> list[tuple[int, int, int]]:
    """Numbers as start, step and count of parts of equal steps."""
    found: list[tuple[int, int, int]] = []
    place = 0
    while place < len(index):
        step, end = (index[place + 1] - index[place] if place + 1 < len(index) else 1), place + 1
        while end < len(index) and index[end] - index[end - 1] == step:
            end += 1
        found.append((index[place], step, end - place))
        place = end
    return found


def _join(writer: Writer, node: Node, shape: Shape, *parts: Forms) -> Forms:
    axis = node.attributes.get("axis", 0)
    if all(axis in part.maps for part in parts):
        numbers = [writer.exact_map(part) if node.op == "concat" else part.maps[axis] for part in parts]
        forms = {writer.shapes[number][1:] for number in numbers}
        if len(forms) == 1:
            form = (shape[axis], *writer.shapes[numbers[0]][1:])
            return Forms(shape, {axis: writer.emit("concat", numbers, form)})
    return Forms(shape, make=lambda: _joined(writer, parts, axis, shape))


def _joined(writer: Writer, parts: Sequence[Forms], axis: int, shape: Shape) -> View:
    views = [writer.view_of(part) for part in parts]
    boxes: list[Box] = []
    place = 0
    for source, view in enumerate(views):
        starts = [place if i == axis else 0 for i in range(len(shape))]
        boxes.append((source, view, slots(shape, starts, view.shape)))
        place += view.shape[axis]
    return writer.copied([view.source for view in views], shape, boxes)


def _pad(writer: Writer, node: Node, shape: Shape, value: Forms) -> Forms:
    before, after = node.attributes["before"], node.attributes["after"]
    zeros_around = len(shape) == 3 and node.attributes["value"] == 0 and before[0] == after[0] == 0
    inside = (value, before, after) if zeros_around else None
    return Forms(shape, make=lambda: _padded(writer, writer.view_of(value), node, shape), unpadded=inside)


def _padded(writer: Writer, view: View, node: Node, shape: Shape) -> View:
    """Slabs of the filling before and after, axis by axis, which do not overlap; then the numbers themselves."""
    before, after = node.attributes["before"], node.attributes["after"]
    boxes: list[Box] = [(0, view, slots(shape, before, view.shape))]
    starts, sizes = [0] * len(shape), list(shape)
    for axis, size in enumerate(view.shape):
        for start, thick in ((0, before[axis]), (before[axis] + size, after[axis])):
            if thick:
                here, slab = list(starts), list(sizes)
                here[axis], slab[axis] = start, thick
                filling = View(0, tuple(slab), (0,) * len(slab))
                boxes.append((-1, filling, slots(shape, here, slab)))
        starts[axis], sizes[axis] = before[axis], size
    return writer.copied((view.source,), shape, boxes, node.attributes["value"])


_HANDLERS: dict[str, Callable[..., Forms]] = {
    **dict.fromkeys(_ON_MAPS, _on_map),
    "conv": _conv,
    **dict.fromkeys(_PAIRS, _pair),
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
    "constant": _constant,
    "reshape": _reshape,
    "flatten": _reshape,
    "permute": _permute,
    "expand": _expand,
    "take": _take,
    "join": _join,
    "concat": _join,
    "pad": _pad,
}
