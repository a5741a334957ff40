"""A graph while it is being written, for the functions that say what each of torch's operations is in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from harp.runtime.graph import Node, Shape


class UnsupportedError(ValueError):
    """Why an operation cannot be in a graph; who knows where it stands in the model adds that."""


@dataclass(frozen=True)
class Value:
    """A value of the graph: its number, and how torch sees its shape, without the batch."""

    number: int
    shape: Shape


class Draft:
    """The nodes so far. ``shape`` is that of the result of the operation under way, ``name`` its place in the model."""

    def __init__(self, shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shape, self.name = shape, ""
        self._shapes = [shape]

    def add(
        self,
        op: str,
        *inputs: Value,
        shape: Shape | None = None,
        tensors: Mapping[str, Tensor | None] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Value:
        """Append a node. Its value has ``shape``, by default that of the operation under way.

        Raises UnsupportedError when an input was given another shape than its value has in the graph.
        """
        for value in inputs:
            if value.shape != self._shapes[value.number]:
                seen = f"{self.shape_of(value)} is seen as {value.shape}"
                raise UnsupportedError(
                    f"its input of shape {seen}: expected (c, h, w), or (features) after a flattening"
                )
        held = {name: _array(tensor) for name, tensor in (tensors or {}).items() if tensor is not None}
        self.nodes.append(Node(op, tuple(value.number for value in inputs), attributes or {}, held, self.name))
        self._shapes.append(self.shape if shape is None else shape)
        return Value(len(self.nodes), self._shapes[-1])

    def shape_of(self, value: Value) -> Shape:
        """The shape that a value has in the graph, however torch sees it now."""
        return self._shapes[value.number]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()
