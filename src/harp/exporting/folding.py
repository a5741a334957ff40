"""Put scales and shifts into the layer before them, so that a batch normalisation costs nothing at run time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harp.runtime.graph import Node, Shape


def fold(nodes: Sequence[Node], shapes: Sequence[Shape]) -> tuple[Node, ...]:
    """The same network with every affine merged into the convolution, linear layer or affine that it reads.

    Only where nothing else reads that layer. Never forward, into the convolution that follows: its zero padding would
    then be shifted, too.
    """
    readers = Counter(value for node in nodes for value in node.inputs)
    folded: list[Node] = []
    now = {0: 0}  # which value each old value is
    for number, node in enumerate(nodes, start=1):
        inputs = tuple(now[value] for value in node.inputs)
        before = folded[inputs[0] - 1] if inputs and inputs[0] > 0 else None
        once = inputs and readers[node.inputs[0]] == 1
        if once and before is not None and _fits(before, node, len(shapes[number])):
            folded[inputs[0] - 1] = _merged(before, node)
            now[number] = inputs[0]
        else:
            folded.append(replace(node, inputs=inputs))
            now[number] = len(folded)
    return tuple(folded)


_FOLDS = {
    "conv": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "affine": ("scale", "shift"),
    "affine_last": ("scale", "shift"),
}
"""What is scaled, and what is scaled and shifted, in each operation that an affine can be merged into."""


def _fits(before: Node, node: Node, rank: int) -> bool:
    """Whether the channels of an affine are those that the operation before it makes."""
    if node.op == "affine":
        return before.op in ("conv", "affine") or (before.op == "linear" and (rank == 1 or _is_one_number(node)))
    if node.op == "affine_last":
        return before.op in ("linear", "affine_last") or (before.op in ("conv", "affine") and _is_one_number(node))
    return False


def _is_one_number(node: Node) -> bool:
    return all(bool((tensor == tensor[0]).all()) for tensor in node.tensors.values())


def _merged(before: Node, affine: Node) -> Node:
    """In float64: rounding twice would cost half a digit."""
    scale, shift = (affine.tensors[name].astype(np.float64) for name in ("scale", "shift"))
    factor, offset = _FOLDS[before.op]
    if len(scale) != len(before.tensors[factor]):  # one number for all
        scale, shift = (np.full(len(before.tensors[factor]), numbers[0]) for numbers in (scale, shift))
    scaled = before.tensors[factor].astype(np.float64)
    scaled *= scale.reshape(-1, *[1] * (scaled.ndim - 1))
    shifted = before.tensors[offset] * scale + shift if offset in before.tensors else shift
    return replace(before, tensors={factor: scaled, offset: shifted})
