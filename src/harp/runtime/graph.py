"""A network as data: a list of nodes in the order in which they run. What `harp.export` writes and the engine reads.

Value 0 is the input, a batch of images (n, c, h, w); node i computes value i + 1. The last value is the output.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shape = tuple[int, ...]
"""Without the batch: (c, h, w) of a map, (features,) of a flat value."""


@dataclass(frozen=True)
class Op:
    """The signature of an operation: how many inputs (None: two or more), which attributes, which tensors."""

    inputs: int | None
    attributes: Mapping[str, type] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_POOL = {"kernel": tuple, "stride": tuple, "padding": tuple}

OPS: dict[str, Op] = {
    # weight (out, in / groups, kh, kw), bias (out,); stride, padding, dilation are (h, w)
    "conv": Op(1, {"stride": tuple, "padding": tuple, "dilation": tuple, "groups": int}, ("weight",), ("bias",)),
    # weight (out, in), bias (out,); on a flat value
    "linear": Op(1, {}, ("weight",), ("bias",)),
    # x · scale + shift, one number per channel: a normalisation that could not be folded
    "affine": Op(1, {}, ("scale", "shift")),
    "relu": Op(1),
    "relu6": Op(1),
    "leaky_relu": Op(1, {"slope": float}),
    "sigmoid": Op(1),
    "silu": Op(1),
    "hardswish": Op(1),
    "hardsigmoid": Op(1),
    "gelu": Op(1, {"tanh": bool}),
    "softmax": Op(1),  # over channels or features
    "max_pool": Op(1, {**_POOL, "ceil": bool}),
    "avg_pool": Op(1, {**_POOL, "ceil": bool, "count_padding": bool}),
    # size (h, w) of the result; (1, 1) is the mean of the map
    "adaptive_avg_pool": Op(1, {"size": tuple}),
    # of equal shapes, or one of (c, 1, 1)
    "add": Op(2),
    "mul": Op(2),
    "concat": Op(None),  # along channels
    "flatten": Op(1),
}


@dataclass(frozen=True)
class Node:
    """One operation. ``inputs`` are values; ``name`` says where in the network it came from, for messages.

    ``tensors`` are float32 arrays; while a file is read, what stands for them and has their ``shape``.
    """

    op: str
    inputs: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Graph:
    """``input`` is the shape (c, h, w) it was traced with; other image sizes run where the operations allow it."""

    input: Shape
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class _Outline:
    shape: Shape


def outline(graph: Graph) -> Graph:
    """The graph without its weights: what stands for them has their shapes."""
    nodes = (
        replace(node, tensors={name: _Outline(tuple(tensor.shape)) for name, tensor in node.tensors.items()})
        for node in graph.nodes
    )
    return Graph(tuple(graph.input), tuple(nodes))
