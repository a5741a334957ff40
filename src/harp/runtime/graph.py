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
    """The signature of an operation: how many inputs (None: two or more), which attributes, which tensors.

    An attribute that is a tuple is a pair (h, w), one that is a list is a tuple of any length.
    """

    inputs: int | None
    attributes: Mapping[str, type] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_POOL = {"kernel": tuple, "stride": tuple, "padding": tuple}

OPS: dict[str, Op] = {
    # weight (out, in / groups, kh, kw), bias (out,); stride, padding, dilation are (h, w)
    "conv": Op(1, {"stride": tuple, "padding": tuple, "dilation": tuple, "groups": int}, ("weight",), ("bias",)),
    # weight (out, in), bias (out,); along the last axis
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
    # of equal shapes, or one of (c, 1, 1), or others that broadcast
    "add": Op(2),
    "mul": Op(2),
    "concat": Op(None),  # along channels
    "flatten": Op(1),
    # Numbers one by one, of any value
    "tanh": Op(1),
    "elu": Op(1, {"alpha": float}),
    "mish": Op(1),
    "softplus": Op(1),
    "exp": Op(1),
    "log": Op(1),
    "sqrt": Op(1),
    "rsqrt": Op(1),
    "abs": Op(1),
    "sin": Op(1),
    "cos": Op(1),
    "erf": Op(1),
    "power": Op(1, {"exponent": float}),
    "at_least": Op(1, {"bound": float}),
    "at_most": Op(1, {"bound": float}),
    # Of values of any shape, which broadcast against each other as in numpy; so do add and mul
    "sub": Op(2),
    "div": Op(2),
    "maximum": Op(2),
    "minimum": Op(2),
    # Tensors of any shape: (tokens, features), (heads, tokens, tokens), …
    "constant": Op(0, {}, ("value",)),
    "reshape": Op(1, {"shape": list}),
    "permute": Op(1, {"order": list}),
    "take": Op(1, {"axis": int, "index": list}),  # these entries along an axis
    "expand": Op(1, {"shape": list}),
    "pad": Op(1, {"before": list, "after": list, "value": float}),  # entries before and after, for each axis
    "join": Op(None, {"axis": int}),
    "affine_last": Op(1, {}, ("scale", "shift")),  # as affine, along the last axis
    # over so many last axes: mean 0 if it is centred, then variance 1
    "layer_norm": Op(1, {"axes": int, "eps": float, "centred": bool}, (), ("scale", "shift")),
    "group_norm": Op(1, {"groups": int, "eps": float}, (), ("scale", "shift")),
    "softmax_last": Op(1),
    "reduce": Op(1, {"how": str}),  # the last axis to one entry: sum, mean, maximum, minimum or norm
    "matmul": Op(2, {"factor": float}),  # the product of matrices times a factor
    "resample": Op(1, {"axis": int}, ("matrix",)),  # matrix (new, old) along an axis
}
REDUCTIONS = ("sum", "mean", "maximum", "minimum", "norm")
ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu", "tanh", "elu", "mish"),
    *("softplus", "exp", "log", "sqrt", "rsqrt", "abs", "sin", "cos", "erf", "power", "at_least", "at_most"),
)


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
