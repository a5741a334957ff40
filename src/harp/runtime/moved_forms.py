"""Operations that move numbers, in the forms that the engine runs them on: other views where that is possible."""

from collections.abc import Callable, Sequence

from harp.runtime.forms import Box, Forms, Writer, seen_as, slots
from harp.runtime.graph import Node, Shape
from harp.runtime.views import View, whole


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


MOVED: dict[str, Callable[..., Forms]] = {
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
