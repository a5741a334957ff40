"""A graph while it is being written, for the functions that say what each of torch's operations is in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harp.runtime.graph import Node, Shape


class UnsupportedError(ValueError):
    """Why an operation cannot be in a graph; who knows where it stands in the model adds that."""


@dataclass(frozen=True)
class Value:
    """A value of the graph: its number, and how torch sees its shape, without the batch.

    ``batch`` is the dimension of torch's tensor that holds the images. Where it is ``merged``, that dimension counts
    images times the entries of an axis, and is an axis of ``shape``, too: images outermost, unless they are ``inner``.
    """

    number: int
    shape: Shape
    batch: int = 0
    merged: bool = False
    inner: bool = False

    @property
    def before(self) -> int:
        """How many entries of an image come before those that differ between images next to each other."""
        return math.prod(self.shape[: self.batch + self.inner])

    @property
    def rank(self) -> int:
        """Of torch's tensor."""
        return len(self.shape) + (not self.merged)

    def axis(self, dim: int) -> int:
        """The axis of ``shape`` that is a dimension of torch's tensor. Raises UnsupportedError for that of the batch."""
        dim %= self.rank
        if dim == self.batch:
            raise UnsupportedError(f"it works along dimension {dim}, and mixes the images of a batch")
        return dim - (dim > self.batch and not self.merged)

    @property
    def is_map(self) -> bool:
        """Whether torch sees (n, c, h, w)."""
        return self.batch == 0 and not self.merged and len(self.shape) == 3


class Draft:
    """The nodes so far. ``shape`` is that of the result of the operation under way, ``name`` its place in the model.

    ``view`` is what torch makes of it.
    """

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shape, self.view, self.name = shape, Value(0, shape), ""
        self.shapes = [shape]
        self._settled: dict[tuple[int, Shape], int] = {}

    def add(
        self,
        op: str,
        *inputs: Value,
        shape: Shape | None = None,
        tensors: Mapping[str, Tensor | None] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Value:
        """Append a node. Its value has ``shape``, by default that of the operation under way.

        An input that torch sees with another shape than it has in the graph is reshaped first.
        """
        numbers = tuple(self.settled(value) for value in inputs)
        held = {name: _array(tensor) for name, tensor in (tensors or {}).items() if tensor is not None}
        return self._append(
            Node(op, numbers, attributes or {}, held, self.name), self.shape if shape is None else shape
        )

    def settled(self, value: Value) -> int:
        """The number of a value that has in the graph the shape that torch sees."""
        there = self.shapes[value.number]
        if value.shape == there:
            return value.number
        seen = (value.number, value.shape)
        if seen not in self._settled:
            flat = len(value.shape) == 1 and len(there) == 3
            op, how = ("flatten", {}) if flat else ("reshape", {"shape": value.shape})
            self._settled[seen] = self._append(Node(op, (value.number,), how, {}, self.name), value.shape).number
        return self._settled[seen]

    def constant(self, tensor: Tensor) -> Value:
        """The same numbers for every image, of the shape of ``tensor``."""
        held = tensor.detach().to("cpu", torch.float32)
        held = held[None] if held.dim() == 0 else held
        return self.add("constant", shape=tuple(held.shape), tensors={"value": held})

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        return Value(value.number, tuple(shape))

    def permuted(self, value: Value, order: Sequence[int]) -> Value:
        """With axes, not dimensions, in another order."""
        if list(order) == list(range(len(order))):
            return value
        shape = tuple(value.shape[axis] for axis in order)
        return self.add("permute", value, shape=shape, attributes={"order": tuple(order)})

    def taken(self, value: Value, axis: int, index: Sequence[int]) -> Value:
        """These entries of an axis."""
        if list(index) == list(range(value.shape[axis])):
            return value
        if not index:
            raise UnsupportedError("its result is empty")
        shape = (*value.shape[:axis], len(index), *value.shape[axis + 1 :])
        return self.add("take", value, shape=shape, attributes={"axis": axis, "index": tuple(int(i) for i in index)})

    def _append(self, node: Node, shape: Shape) -> Value:
        self.nodes.append(node)
        self.shapes.append(tuple(shape))
        return Value(len(self.nodes), self.shapes[-1])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()
