"""From a graph to what the engine runs: operations that are one pass over memory become one layer.

A convolution or linear layer takes with it the sum with a residual, the activation, and a 2×2 max-pooling that follow
it and that nobody else reads. A linear layer on a small flattened map is a convolution with a window as large as the map.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harp.runtime.details import details_of
from harp.runtime.graph import ACTIVATIONS, Graph, Node, Shape
from harp.runtime.packing import Sparse, array_of

_MOST_FLATTENED = 16
"""Pixels of a map that a linear layer reads as it is, unflattened."""
_TWO_BY_TWO = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": False}


@dataclass(frozen=True)
class Rows:
    """A weight by its non-zeros: those of output o are ``starts[o]`` to ``starts[o + 1]``, by ascending column."""

    inputs: int
    """Of one group."""
    groups: int
    window: int
    """Kernel height times width; a column is channel · window + place."""
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    bias: np.ndarray

    @property
    def outputs(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Layer:
    """One pass of the engine. Value 0 is the image, layer i computes value i + 1."""

    kind: str
    inputs: tuple[int, ...]
    source: int
    """The value of the graph that it computes: for its shape."""
    channels: int
    """Of the result; fewer than the graph's after trimming."""
    name: str = ""
    residual: int = -1
    attributes: dict[str, Any] = field(default_factory=dict)
    activation: str = "none"
    slope: float = 0.0
    pool: bool = False
    rows: Rows | None = None
    weight: int | None = None
    """The node of the graph whose weight it is."""
    flattens: int | None = None
    """The value of the graph that it reads as if flattened, which its window covers."""
    scale: np.ndarray | None = None
    shift: np.ndarray | None = None
    numbers: tuple[int, ...] | None = None
    """What the engine is told of a step beside those on maps, see engine/steps/tensors.h; and its constants."""
    constants: np.ndarray | None = None


def lower(graph: Graph, shapes: tuple[Shape, ...]) -> list[Layer]:
    """The layers of a graph whose values have these shapes; its tensors are arrays or :class:`Sparse`."""
    readers = _readers(graph)
    numbers = {0: 0}  # graph value → layer value
    layers: list[Layer] = []
    taken: set[int] = set()
    postponed: dict[int, Layer] = {}  # by the node that completes it
    for place, node in enumerate(graph.nodes):
        if place in taken:
            if place in postponed:
                layers.append(_renumber(postponed[place], numbers))
                numbers[place + 1] = len(layers)
            continue
        if _read_as_map(graph, place, readers, shapes):
            numbers[place + 1] = numbers[node.inputs[0]]
            continue
        layer, last = _grow(graph, place, _plain(graph, place, readers, shapes), readers, shapes, taken)
        if last > place:
            postponed[last] = layer
        else:
            layers.append(_renumber(layer, numbers))
            numbers[place + 1] = len(layers)
    return layers


def _readers(graph: Graph) -> list[list[int]]:
    readers: list[list[int]] = [[] for _ in range(len(graph.nodes) + 1)]
    for place, node in enumerate(graph.nodes):
        for value in node.inputs:
            readers[value].append(place)
    return readers


def _read_as_map(graph: Graph, place: int, readers: list[list[int]], shapes: tuple[Shape, ...]) -> bool:
    """Whether a node flattens a map for nothing but linear layers, which can as well read the map."""
    node = graph.nodes[place]
    if node.op != "flatten" or len(shapes[node.inputs[0]]) != 3 or not readers[place + 1]:
        return False
    small = np.prod(shapes[node.inputs[0]][1:]) <= _MOST_FLATTENED
    return bool(small) and all(graph.nodes[reader].op == "linear" for reader in readers[place + 1])


def _renumber(layer: Layer, numbers: dict[int, int]) -> Layer:
    residual = numbers[layer.residual] if layer.residual >= 0 else -1
    return replace(layer, inputs=tuple(numbers[value] for value in layer.inputs), residual=residual)


def _grow(
    graph: Graph, place: int, layer: Layer, readers: list[list[int]], shapes: tuple[Shape, ...], taken: set[int]
) -> tuple[Layer, int]:
    """The layer with what can be fused behind it, and the last node that it swallowed."""
    last = place
    while len(readers[last + 1]) == 1:
        following = readers[last + 1][0]
        node = graph.nodes[following]
        grown = _fuse(layer, node, last + 1, shapes)
        if following in taken or grown is None:
            break
        taken.add(following)
        layer, last = replace(grown, source=following + 1, channels=shapes[following + 1][0]), following
    return layer, last


def _fuse(layer: Layer, node: Node, value: int, shapes: tuple[Shape, ...]) -> Layer | None:
    """The layer with ``node``, the only reader of its ``value``, in it; None when the engine cannot."""
    open_ended = layer.activation == "none" and not layer.pool and layer.kind in ("conv", "affine", "add", "mul")
    if node.op in ACTIVATIONS and open_ended:
        return _with_activation(layer, node)
    if layer.kind != "conv" or layer.pool:
        return None
    if node.op == "add" and open_ended and layer.residual < 0 and len({shapes[v] for v in node.inputs}) == 1:
        (other,) = [v for v in node.inputs if v != value] or [None]
        return None if other is None else replace(layer, residual=other)
    plain_pool = node.op == "max_pool" and all(node.attributes[key] == v for key, v in _TWO_BY_TWO.items())
    return replace(layer, pool=True) if plain_pool and layer.residual < 0 else None


def _with_activation(layer: Layer, node: Node) -> Layer:
    name = "gelu_tanh" if node.attributes.get("tanh") else node.op
    slope = next((value for value in node.attributes.values() if isinstance(value, float)), 0.0)
    return replace(layer, activation=name, slope=slope)


def _plain(graph: Graph, place: int, readers: list[list[int]], shapes: tuple[Shape, ...]) -> Layer:
    node, value = graph.nodes[place], place + 1
    layer = Layer(node.op, node.inputs, value, shapes[value][0], node.name, attributes=dict(node.attributes))
    if node.op in ACTIVATIONS:
        return _with_activation(replace(layer, kind="activation"), node)
    if (details := details_of(node)) is not None:
        layer = replace(layer, numbers=details[0], constants=details[1])
        return _with_activation(layer, node.attributes["activation"]) if node.op == "elementwise" else layer
    if node.op == "affine":
        return replace(layer, scale=array_of(node.tensors["scale"]), shift=array_of(node.tensors["shift"]))
    if node.op == "conv":
        return _weighted(layer, node, tuple(node.tensors["weight"].shape[2:]))
    if node.op == "linear":
        before = node.inputs[0] - 1
        if before >= 0 and _read_as_map(graph, before, readers, shapes):
            (source,) = graph.nodes[before].inputs
            return replace(_weighted(layer, node, tuple(shapes[source][1:])), flattens=source)
        return _weighted(layer, node, (1, 1))
    return layer


def _weighted(layer: Layer, node: Node, kernel: tuple[int, ...]) -> Layer:
    rows = weight_rows(node.tensors["weight"], layer.attributes.get("groups", 1), int(np.prod(kernel)))
    if "bias" in node.tensors:
        rows = replace(rows, bias=array_of(node.tensors["bias"]))
    if margins := layer.attributes.get("margins"):
        rows, kernel = _enlarged(rows, (kernel[0], kernel[1]), margins)
    attributes = {**layer.attributes, "kernel": kernel}
    return replace(layer, kind="conv", attributes=attributes, rows=rows, weight=layer.source - 1)


def _enlarged(rows: Rows, kernel: tuple[int, int], margins: Any) -> tuple[Rows, tuple[int, int]]:
    """The same weights in a kernel with rows and columns of zeros before and after, which cost nothing."""
    (top, bottom), (left, right) = margins
    height, width = kernel[0] + top + bottom, kernel[1] + left + right
    channel, place = rows.columns // rows.window, rows.columns % rows.window
    y, x = place // kernel[1] + top, place % kernel[1] + left
    columns = (channel * (height * width) + y * width + x).astype(np.int32)
    return replace(rows, window=height * width, columns=columns), (height, width)


def weight_rows(weight: Any, groups: int, window: int) -> Rows:
    """A weight (out, …) as rows of non-zeros, for a window of so many places."""
    outputs = weight.shape[0]
    width = int(np.prod(weight.shape[1:], dtype=np.int64))
    if isinstance(weight, Sparse) and weight.positions is not None:
        positions, values = weight.positions, weight.values
    else:
        flat = array_of(weight).reshape(-1)
        positions = np.flatnonzero(flat)
        values = flat[positions]
    starts = np.searchsorted(positions, np.arange(outputs + 1) * width).astype(np.int64)
    columns = (positions % width).astype(np.int32)
    return Rows(width // window, groups, window, starts, columns, values, np.zeros(outputs, np.float32))
