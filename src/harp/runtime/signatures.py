"""What every operation is given, as its signature lists it: inputs, attributes, tensors and their sizes."""

import math
from collections.abc import Callable
from typing import Any

from harp.runtime.graph import OPS, Node, Shape

MOST_WEIGHTS = 2**31 - 1
"""Of one tensor."""
MOST_AXES = 6
"""Of a value, without the batch."""
_LARGEST = 2**24
"""Of an attribute or a side: sums and products of a few of them stay exact in 64 bits."""
_FROM_ZERO = ("padding", "axis", "before", "after", "index", "order")
_MOST_ENTRIES = 2**16
"""Of an attribute that is a list."""


def check_signature(node: Node, values: int) -> None:
    """Raise ValueError unless operation, inputs, attributes and tensors are those that :data:`OPS` lists."""
    op = OPS.get(node.op) if isinstance(node.op, str) else None
    if op is None:
        raise ValueError(f"op={node.op!r} is not an operation of the runtime; it has {', '.join(OPS)}")
    wanted = "two or more" if op.inputs is None else op.inputs
    if len(node.inputs) < 2 if op.inputs is None else len(node.inputs) != op.inputs:
        raise ValueError(f"inputs={node.inputs}: expected {wanted}")
    if not all(is_int(value, 0) and value < values for value in node.inputs):
        raise ValueError(f"inputs={node.inputs}: expected values computed before, 0 to {values - 1}")
    if set(node.attributes) != set(op.attributes):
        raise ValueError(f"attributes {sorted(node.attributes)}: expected {sorted(op.attributes)}")
    for name, kind in op.attributes.items():
        _check_attribute(name, node.attributes[name], kind)
    if not set(op.tensors) <= set(node.tensors) <= {*op.tensors, *op.optional}:
        raise ValueError(f"tensors {sorted(node.tensors)}: expected {sorted(op.tensors)}, optional {list(op.optional)}")


def _check_attribute(name: str, value: Any, kind: type) -> None:
    lowest = 0 if name in _FROM_ZERO else 1
    if kind in (tuple, list):
        most = 2 if kind is tuple else _MOST_ENTRIES
        right = isinstance(value, tuple) and len(value) <= most and (kind is list or len(value) == 2)
        good = right and all(is_int(v, lowest) for v in value)
    else:
        good = _GOOD[kind](value, lowest)
    if not good:
        wanted = {tuple: f"two integers from {lowest}", list: f"integers from {lowest}"}.get(kind, kind.__name__)
        raise ValueError(f"{name}={str(value)[:80]}: expected {wanted}")


_GOOD: dict[type, Callable[[Any, int], bool]] = {
    int: lambda value, lowest: is_int(value, lowest),
    float: lambda value, lowest: isinstance(value, float) and math.isfinite(value),
    bool: lambda value, lowest: isinstance(value, bool),
    str: lambda value, lowest: isinstance(value, str),
}


def is_int(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= _LARGEST


def tensor_shape(node: Node, name: str, dimensions: int) -> Shape:
    shape = tuple(node.tensors[name].shape)
    if len(shape) != dimensions or min(shape, default=1) < 1 or math.prod(shape) > MOST_WEIGHTS:
        raise ValueError(f"{name} of shape {shape}: expected {dimensions} dimensions, none 0, not too large to hold")
    return shape


def check_vectors(node: Node, features: int) -> None:
    for name in set(node.tensors) - {"weight"}:
        if tensor_shape(node, name, 1) != (features,):
            raise ValueError(f"{name} of shape {tuple(node.tensors[name].shape)}: expected ({features},)")
