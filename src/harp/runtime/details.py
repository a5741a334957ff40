"""What the engine is told of the steps that are not on maps: numbers and constants, as engine/steps/tensors.h lists them."""

from collections.abc import Callable

import numpy as np

from harp.runtime.graph import REDUCTIONS, Node
from harp.runtime.packing import array_of

PAIRINGS = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
Details = tuple[tuple[int, ...], np.ndarray]
_NOTHING = np.empty(0, np.float32)


def details_of(node: Node) -> Details | None:
    """None for what runs on maps as before."""
    handler = _DETAILS.get(node.op)
    return None if handler is None else handler(node)


def _numbers(node: Node) -> Details:
    return tuple(node.attributes["numbers"]), np.array(node.attributes.get("values", ()), np.float32)


def _pairwise(node: Node) -> Details:
    return (PAIRINGS.index(node.attributes["how"]), *node.attributes["numbers"]), _NOTHING


def _normalisation(node: Node) -> Details:
    held = [name for name in ("scale", "shift") if name in node.tensors]
    tensors = [array_of(node.tensors[name]).reshape(-1) for name in held]
    flags = (int(node.attributes.get("centred", True)), *(int(name in held) for name in ("scale", "shift")))
    return flags, np.concatenate([np.array([node.attributes["eps"]], np.float32), *tensors])


def _rows_normalise(node: Node) -> Details:
    flags, values = _normalisation(node)
    return (node.attributes["count"], *flags), values


def _reduce(node: Node) -> Details:
    return (node.attributes["count"], REDUCTIONS.index(node.attributes["how"])), _NOTHING


_DETAILS: dict[str, Callable[[Node], Details]] = {
    "channels": _numbers,
    "normalise": _normalisation,
    "constant": lambda node: ((), array_of(node.tensors["value"]).reshape(-1)),
    "pack": _numbers,
    "unpack": lambda node: ((), _NOTHING),
    "copy": _numbers,
    "pairwise": _pairwise,
    "elementwise": lambda node: ((), _NOTHING),
    "rows_softmax": lambda node: ((node.attributes["count"],), _NOTHING),
    "rows_normalise": _rows_normalise,
    "rows_reduce": _reduce,
    "matmul": _numbers,
}
