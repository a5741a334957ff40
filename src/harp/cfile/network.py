"""A graph as the steps of a C file: layers, sizes, constants, and the place of every value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harp.cfile.arena import Arena, plan
from harp.cfile.storing import Stored, Values, store
from harp.runtime.arranging import arrange
from harp.runtime.graph import Graph, Shape
from harp.runtime.lowering import Layer, lower
from harp.runtime.shapes import shapes
from harp.runtime.trimming import trim

KINDS = (
    *("conv", "activation", "affine", "softmax", "max_pool", "avg_pool", "adaptive_avg_pool"),
    *("add", "mul", "concat", "flatten"),
)
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu", "gelu_tanh")
"""Those that have a file in parts/."""
Size = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True)
class Network:
    """What a C file is written from. ``layers`` have the weights that it computes with."""

    layers: tuple[Layer, ...]
    stored: tuple[Stored | None, ...]
    sizes: tuple[Size, ...]
    """Of every value, the image first."""
    output: Shape
    arena: Arena
    values: Values

    @property
    def constant_bytes(self) -> int:
        """Of weights, their gaps, scales and biases."""
        weights = sum(stored.size_bytes for stored in self.stored if stored is not None)
        return weights + sum(2 * layer.scale.nbytes for layer in self.layers if layer.scale is not None)

    @property
    def arena_bytes(self) -> int:
        return 4 * self.arena.size


def network_of(graph: Graph, values: Values) -> Network:
    """Raises ValueError naming the layer when it cannot be written in C, or a weight not in ``values``."""
    known = shapes(graph)
    layers = layers_of(graph)
    for layer in layers:
        _check(layer)
    sizes = _sizes(layers, known)
    stored = [store(layer, values) for layer in layers]
    scratch = {
        place: math.prod(convolved(layer, sizes[layer.inputs[0]])) for place, layer in enumerate(layers) if layer.pool
    }
    arena = plan(layers, [math.prod(size) for size in sizes], scratch)
    kept = tuple(layer for layer, _ in stored)
    return Network(kept, tuple(constants for _, constants in stored), sizes, known[-1], arena, values)


def layers_of(graph: Graph) -> list[Layer]:
    """What the engine runs for a graph, without its needless channels."""
    arranged, values = arrange(graph, shapes(graph))
    return trim(lower(arranged, values), values)


def convolved(layer: Layer, size: Size) -> tuple[int, int]:
    """Height and width of what a convolution gives, before its results are halved."""
    a = layer.attributes
    keys = ("kernel", "stride", "padding", "dilation")
    each = zip(size[1:], *(a.get(key, (1, 1) if key != "padding" else (0, 0)) for key in keys), strict=True)
    rows, columns = ((side + 2 * pad - far * (kernel - 1) - 1) // step + 1 for side, kernel, step, pad, far in each)
    return rows, columns


def _check(layer: Layer) -> None:
    """Raise ValueError for what these functions do not compute."""
    place = f" ({layer.name!r})" if layer.name else ""
    if layer.kind not in KINDS:
        raise ValueError(
            f"{layer.kind}{place} cannot be written in C: expected {', '.join(KINDS)}; run it in harp.runtime"
        )
    if layer.activation not in ("none", *ACTIVATIONS):
        raise ValueError(
            f"activation {layer.activation!r}{place} cannot be written in C: expected {', '.join(ACTIVATIONS)}; run it in "
            "harp.runtime"
        )


def _sizes(layers: Sequence[Layer], known: tuple[Shape, ...]) -> tuple[Size, ...]:
    """Flat values are maps of one pixel."""
    sizes: list[Size] = [(known[0][0], known[0][1], known[0][2])]
    for layer in layers:
        height, width = (*known[layer.source][1:], 1, 1)[:2]
        channels = math.prod(sizes[layer.inputs[0]]) if layer.kind == "flatten" else layer.channels
        sizes.append((channels, height, width))
    return tuple(sizes)
