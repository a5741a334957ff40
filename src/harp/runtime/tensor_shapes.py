"""The shapes that operations on tensors of any rank give, and what they need."""

import math
from collections.abc import Callable

from harp.runtime.graph import REDUCTIONS, Node, Shape
from harp.runtime.signatures import MOST_AXES, check_vectors, tensor_shape


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of a sum of these, as numpy has it. Raises ValueError when they do not fit each other."""
    rank = max(len(a), len(b))
    longer = [(1,) * (rank - len(shape)) + shape for shape in (a, b)]
    if not all(x == y or 1 in (x, y) for x, y in zip(*longer, strict=True)):
        raise ValueError(f"its inputs have shapes {a} and {b}: expected equal ones, or such that broadcast")
    return tuple(max(pair) for pair in zip(*longer, strict=True))


def _axis(node: Node, x: Shape) -> int:
    axis = node.attributes["axis"]
    if axis >= len(x):
        raise ValueError(f"axis={axis}: its input has shape {x}")
    return axis


def _with(x: Shape, axis: int, size: int) -> Shape:
    return (*x[:axis], size, *x[axis + 1 :])


def _check_rank(shape: Shape) -> Shape:
    if not 1 <= len(shape) <= MOST_AXES:
        raise ValueError(f"a value of shape {shape[:8]}: expected 1 to {MOST_AXES} axes")
    return shape


def _constant(node: Node) -> Shape:
    rank = len(node.tensors["value"].shape)
    return tensor_shape(node, "value", len(_check_rank((1,) * rank)))


def _reshape(node: Node, x: Shape) -> Shape:
    shape = _check_rank(node.attributes["shape"])
    if math.prod(shape) != math.prod(x):
        raise ValueError(f"shape={shape}: its input has shape {x}, of another number of entries")
    return shape


def _permute(node: Node, x: Shape) -> Shape:
    order = node.attributes["order"]
    if sorted(order) != list(range(len(x))):
        raise ValueError(f"order={order[:8]}: expected each axis of its input once, which has shape {x}")
    return tuple(x[axis] for axis in order)


def _take(node: Node, x: Shape) -> Shape:
    axis, index = _axis(node, x), node.attributes["index"]
    if not index or max(index) >= x[axis]:
        raise ValueError(f"index={str(index)[:60]}: expected entries of axis {axis} of its input, which has shape {x}")
    return _with(x, axis, len(index))


def _expand(node: Node, x: Shape) -> Shape:
    shape = _check_rank(node.attributes["shape"])
    if len(shape) < len(x) or broadcast(x, shape) != shape:
        raise ValueError(f"shape={shape}: its input has shape {x}, which cannot be repeated to it")
    return shape


def _pad(node: Node, x: Shape) -> Shape:
    before, after = node.attributes["before"], node.attributes["after"]
    if not len(before) == len(after) == len(x):
        raise ValueError(f"before={before[:8]}, after={after[:8]}: expected one entry for each axis of {x}")
    return tuple(sum(sizes) for sizes in zip(before, x, after, strict=True))


def _join(node: Node, *parts: Shape) -> Shape:
    axis = _axis(node, parts[0])
    if len({_with(part, axis, 1) if len(part) > axis else part for part in parts}) != 1:
        raise ValueError(f"its inputs have shapes {parts}: expected all the same but for axis {axis}")
    return _with(parts[0], axis, sum(part[axis] for part in parts))


def _affine_last(node: Node, x: Shape) -> Shape:
    check_vectors(node, x[-1])
    return x


def _layer_norm(node: Node, x: Shape) -> Shape:
    axes = node.attributes["axes"]
    if axes > len(x):
        raise ValueError(f"axes={axes}: its input has shape {x}")
    check_vectors(node, math.prod(x[-axes:]))
    return x


def _group_norm(node: Node, x: Shape) -> Shape:
    groups = node.attributes["groups"]
    if x[0] % groups:
        raise ValueError(f"groups={groups}: its input has {x[0]} channels")
    check_vectors(node, x[0])
    return x


def _reduce(node: Node, x: Shape) -> Shape:
    if node.attributes["how"] not in REDUCTIONS:
        raise ValueError(f"how={node.attributes['how'][:20]!r}: expected one of {', '.join(REDUCTIONS)}")
    return (*x[:-1], 1)


def _matmul(node: Node, a: Shape, b: Shape) -> Shape:
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(f"its inputs have shapes {a} and {b}: expected (…, m, k) and (…, k, n)")
    return (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


def _resample(node: Node, x: Shape) -> Shape:
    axis = _axis(node, x)
    new, old = tensor_shape(node, "matrix", 2)
    if old != x[axis]:
        raise ValueError(
            f"matrix of shape {(new, old)}: its input has shape {x}, of {x[axis]} entries along axis {axis}"
        )
    return _with(x, axis, new)


def _pair(node: Node, a: Shape, b: Shape) -> Shape:
    return broadcast(a, b)


TENSOR_RULES: dict[str, Callable[..., Shape]] = {
    **dict.fromkeys(("sub", "div", "maximum", "minimum"), _pair),
    "constant": _constant,
    "reshape": _reshape,
    "permute": _permute,
    "take": _take,
    "expand": _expand,
    "pad": _pad,
    "join": _join,
    "affine_last": _affine_last,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "softmax_last": lambda node, x: x,
    "reduce": _reduce,
    "matmul": _matmul,
    "resample": _resample,
}
