"""How the engine holds the values of a graph: as maps, whose channels are any one of their axes, or as tensors.

Convolutions, linear layers and what stands between them run on maps: vectors of positions, channel by channel. All
else runs on tensors, which lie in memory row by row. A value gets the form that is asked for when it is asked for;
permutations, parts and reshapes are other views of what is there, where that is possible.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harp.runtime.graph import Node, Shape
from harp.runtime.views import View, row_by_row, walk, whole

Box = tuple[int, View, View]
"""Numbers to copy: which input they come from (-1: a filling), where they are, and where they go."""


@dataclass
class Forms:
    """A value of the graph: ``maps`` by the axis that is their channels, ``view`` of a tensor, or what makes them."""

    shape: Shape
    maps: dict[int, int] = field(default_factory=dict)
    view: View | None = None
    make: Callable[[], View] | None = None
    """Of a value that is only made if somebody asks for it."""
    unpadded: "tuple[Forms, tuple[int, ...], tuple[int, ...]] | None" = None
    """Of a map with zeros around it: what is inside, and how many rows and columns are before and after."""


class Writer:
    """The nodes that the engine runs. A map's shape is (c, h, w) or (c,), that of a tensor (1, numbers)."""

    def __init__(self, image: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes: list[Shape] = [image]
        self.name = ""

    def emit(
        self,
        op: str,
        inputs: Sequence[int],
        shape: Shape,
        attributes: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> int:
        self.nodes.append(Node(op, tuple(inputs), attributes or {}, tensors or {}, self.name))
        self.shapes.append(shape)
        return len(self.nodes)

    def tensor(self, op: str, inputs: Sequence[int], shape: Shape, **attributes: Any) -> View:
        """A node that writes the numbers of a tensor in their order."""
        return whole(self.emit(op, inputs, (1, math.prod(shape)), attributes), shape)

    def constant(self, value: Any) -> View:
        """A tensor that is the same for all images; ``value`` is an array, or what stands for it in a file."""
        shape = tuple(value.shape)
        return whole(self.emit("constant", (), (1, math.prod(shape)), {}, {"value": value}), shape)

    def copied(self, inputs: Sequence[int], shape: Shape, boxes: Sequence[Box], filling: float = 0.0) -> View:
        numbers: list[int] = []
        for source, old, new in boxes:
            extents, far, near = walk(old.shape, old.strides, new.strides)
            numbers += [source, *extents, old.offset, *far, new.offset, *near]
        return self.tensor("copy", inputs, shape, numbers=tuple(numbers), values=(filling,))

    # Forms

    def in_order(self, view: View) -> View:
        """The tensor alone in a buffer of its own, its numbers in their order."""
        if view.in_order and view.covers(math.prod(self.shapes[view.source])):
            return view
        return self.copied((view.source,), view.shape, [(0, view, whole(0, view.shape))])

    def view_of(self, value: Forms) -> View:
        if value.view is None and value.maps:
            axis, number = next(iter(value.maps.items()))
            value.view = self._unpacked(number, value.shape, axis)
        elif value.view is None:
            assert value.make is not None
            value.view = value.make()
        return value.view

    def _unpacked(self, number: int, shape: Shape, axis: int) -> View:
        """A map's numbers lie channel by channel in its tensor."""
        positions = (*shape[:axis], *shape[axis + 1 :])
        source = self.emit("unpack", (number,), (1, math.prod(shape)))
        order = [*range(1, axis + 1), 0, *range(axis + 1, len(shape))]
        return whole(source, (shape[axis], *positions)).permuted(order)

    def map_of(self, value: Forms, axis: int) -> int:
        """The map whose channels are an axis, its positions in whatever rows and columns."""
        if axis not in value.maps:
            value.maps[axis] = self._packed(self.view_of(value), axis)
        return value.maps[axis]

    def exact_map(self, value: Forms) -> int:
        """The map of a value of shape (c, h, w) or (c,), its positions where they are."""
        return self.map_like(value, 0, value.shape)

    def map_like(self, value: Forms, axis: int, form: Shape) -> int:
        """The map whose channels are an axis, of the shape ``form``."""
        if axis not in value.maps or self.shapes[value.maps[axis]] != form:
            made = self._packed(self.view_of(value), axis, form)
            value.maps.setdefault(axis, made)
            return made
        return value.maps[axis]

    def _packed(self, view: View, axis: int, form: Shape | None = None) -> int:
        shape = view.shape
        others = [i for i in range(len(shape)) if i != axis]
        channels_first = view.permuted([axis, *others])
        positions = math.prod(channels_first.shape[1:])
        forms = (
            [form]
            if form
            else [
                channels_first.shape if len(shape) in (1, 3) else (shape[axis], positions, 1),
                (shape[axis], math.prod(shape[:axis]), math.prod(shape[axis + 1 :])),
            ]
        )
        seen = next((found for form in forms if (found := channels_first.reshaped(form))), None)
        if seen is None:
            seen = self.in_order(channels_first).reshaped(forms[0])
        assert seen is not None
        numbers = (seen.offset, *(*seen.strides, 0, 0)[:3])
        return self.emit("pack", (seen.source,), seen.shape, {"numbers": numbers})


def seen_as(value: Forms, shape: Shape, make: Callable[[], View]) -> Forms:
    """The same numbers in their order as a value of another shape: maps whose channels are still an axis stay."""
    maps = {}
    for axis, number in value.maps.items():
        for new, size in enumerate(shape):
            if size == value.shape[axis] and math.prod(shape[:new]) == math.prod(value.shape[:axis]):
                maps[new] = number
                break
    view = value.view.reshaped(shape) if value.view is not None else None
    return Forms(shape, maps, view, make)


def slots(shape: Shape, starts: Sequence[int], sizes: Sequence[int]) -> View:
    """The part of a fresh tensor that begins at ``starts``."""
    strides = row_by_row(shape)
    offset = sum(start * stride for start, stride in zip(starts, strides, strict=True))
    return View(0, tuple(sizes), strides, offset)
