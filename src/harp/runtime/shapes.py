"""What every operation needs and gives: a graph is checked by computing the shape of each of its values.

Looks at the shapes of tensors alone, so that a file is checked before anything of its size is allocated.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from harp.runtime.graph import Graph, Node, Shape
from harp.runtime.signatures import check_signature, check_vectors, is_int, tensor_shape
from harp.runtime.tensor_shapes import TENSOR_RULES, broadcast

MOST_NODES = 65_536
MOST_ELEMENTS = 2**28
"""Of one value for one image: a gigabyte. More is a mistake, or meant to exhaust memory."""


def shapes(graph: Graph, image: Shape | None = None) -> tuple[Shape, ...]:
    """The shape of every value, the input's first, for images of shape ``image`` (the traced one by default).

    Raises ValueError naming the node when the graph is not valid, or not for this image.
    """
    first = tuple(graph.input if image is None else image)
    check_image(first)
    if image is not None and first[0] != graph.input[0]:
        raise ValueError(f"image={first}: the network takes images of {graph.input[0]} channels, not {first[0]}")
    if not 1 <= len(graph.nodes) <= MOST_NODES:
        raise ValueError(f"a graph of {len(graph.nodes)} nodes: expected between 1 and {MOST_NODES}")
    known: list[Shape] = [first]
    for place, node in enumerate(graph.nodes):
        try:
            known.append(_shape(node, known))
        except ValueError as error:
            raise ValueError(f"node {place} ({node.op!r}, {node.name!r}): {error}") from None
    return tuple(known)


def check_image(image: Shape) -> None:
    if len(image) != 3 or not all(is_int(side, 1) for side in image) or math.prod(image) > MOST_ELEMENTS:
        raise ValueError(f"image={image}: expected (channels, height, width), each at least 1, not too large to hold")


def _shape(node: Node, known: list[Shape]) -> Shape:
    check_signature(node, len(known))
    result = _RULES.get(node.op, _same)(node, *(known[value] for value in node.inputs))
    if math.prod(result) > MOST_ELEMENTS:
        raise ValueError(f"a result of shape {result} has more than {MOST_ELEMENTS:,} elements per image")
    return result


def _need_map(x: Shape) -> None:
    if len(x) != 3:
        raise ValueError(f"its input has shape {x}: expected a map, (channels, height, width)")


def _sides(
    x: Shape,
    kernel: tuple[int, int],
    attributes: Mapping[str, Any],
    *,
    dilation: tuple[int, int] = (1, 1),
    ceil: bool = False,
) -> tuple[int, int]:
    """Height and width of what a sliding window gives, as PyTorch counts them."""

    def side(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        if room < 0:
            raise ValueError(f"a window of {dilation * (kernel - 1) + 1} does not fit into {size} + 2 · {padding}")
        count = -(-room // stride) + 1 if ceil else room // stride + 1
        # The last window must begin inside the image or its left padding.
        return count - 1 if ceil and (count - 1) * stride >= size + padding else count

    sizes = zip(x[1:], kernel, attributes["stride"], attributes["padding"], dilation, strict=True)
    height, width = (side(*size) for size in sizes)
    return height, width


def _same(node: Node, x: Shape) -> Shape:
    check_vectors(node, x[0])
    return x


def _conv(node: Node, x: Shape) -> Shape:
    _need_map(x)
    out, inputs, *kernel = tensor_shape(node, "weight", 4)
    groups = node.attributes["groups"]
    if out % groups or inputs * groups != x[0]:
        raise ValueError(f"weight of shape {(out, inputs, *kernel)} and groups={groups} do not fit {x[0]} channels")
    check_vectors(node, out)
    window = (kernel[0], kernel[1])
    return (out, *_sides(x, window, node.attributes, dilation=node.attributes["dilation"]))


def _linear(node: Node, x: Shape) -> Shape:
    out, inputs = tensor_shape(node, "weight", 2)
    if x[-1] != inputs:
        raise ValueError(
            f"its input has shape {x}: expected {inputs} along its last axis, the second side of its weight"
        )
    check_vectors(node, out)
    return (*x[:-1], out)


def _pool(node: Node, x: Shape) -> Shape:
    _need_map(x)
    a = node.attributes
    if any(2 * p > k for p, k in zip(a["padding"], a["kernel"], strict=True)):
        raise ValueError(f"padding={a['padding']}: expected at most half of the kernel {a['kernel']}")
    return (x[0], *_sides(x, a["kernel"], a, ceil=a["ceil"]))


def _adaptive(node: Node, x: Shape) -> Shape:
    _need_map(x)
    return (x[0], *node.attributes["size"])


def _pair(node: Node, a: Shape, b: Shape) -> Shape:
    if a == b or (len(a) == 3 and b == (a[0], 1, 1)):
        return a
    if len(b) == 3 and a == (b[0], 1, 1):
        return b
    return broadcast(a, b)


def _concat(node: Node, *parts: Shape) -> Shape:
    if len(parts[0]) not in (1, 3):
        raise ValueError(f"its first input has shape {parts[0]}: expected maps, or flat values")
    if len({(len(part), *part[1:]) for part in parts}) != 1:
        raise ValueError(f"its inputs have shapes {parts}: expected all the same but for the channels")
    return (sum(part[0] for part in parts), *parts[0][1:])


def _flatten(node: Node, x: Shape) -> Shape:
    return (math.prod(x),)


_RULES: dict[str, Callable[..., Shape]] = {
    "conv": _conv,
    "linear": _linear,
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive,
    "add": _pair,
    "mul": _pair,
    "concat": _concat,
    "flatten": _flatten,
    **TENSOR_RULES,
}
"""All others give the shape they are given."""
