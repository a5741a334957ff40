"""What a session knows of its network beside the weights, which are the engine's: layers, and sizes for images."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harp.runtime.arranging import arrange
from harp.runtime.format import described_graph
from harp.runtime.graph import Graph, Shape, outline
from harp.runtime.lowering import Layer, lower
from harp.runtime.shapes import check_image, shapes
from harp.runtime.trimming import trim


@dataclass(frozen=True)
class LayerFacts:
    """Of one pass of the engine. Those without a weight have neither non-zeros nor a dense size."""

    kind: str
    name: str
    activation: str
    nonzeros: int
    dense: int


@dataclass(frozen=True)
class Sizes:
    """What there is to know of images of one size."""

    result: Shape
    values: list[tuple[int, int, int]]
    """Channels, height and width of every value of the engine; flat ones are maps of one pixel."""
    positions: list[int]
    """Of every layer, at how many its weights are multiplied; 0 where it has none."""


class FromFile:
    """Read, checked and lowered by the compiled engine; ``model`` is its ``Model``."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.input: Shape = model.input
        self.layers = tuple(LayerFacts(*facts) for facts in model.layers())

    @cached_property
    def outline(self) -> Graph:
        """The graph without its weights."""
        return outline(described_graph(json.loads(self._model.graph)))

    def sizes(self, image: Shape) -> Sizes:
        """Raises ValueError where the network does not take such images."""
        check_image(image)
        return Sizes(*self._model.sizes(image))


class FromGraph:
    """Lowered here. ``passes`` are what the engine runs, with their weights until :meth:`forget`."""

    def __init__(self, graph: Graph) -> None:
        traced = shapes(graph)
        arranged, values = arrange(graph, traced)
        self.input = tuple(graph.input)
        self.outline = outline(graph)
        self.passes: Sequence[Layer] = trim(lower(arranged, values), values)
        # One that has tensors is for images of one size.
        self._fixed = None if arranged is graph else (traced[-1], values)
        dense = [0 if p.weight is None else _numbers(arranged, p.weight) for p in self.passes]
        self.layers = tuple(
            LayerFacts(p.kind, p.name, p.activation, 0 if p.rows is None else len(p.rows.values), size)
            for p, size in zip(self.passes, dense, strict=True)
        )

    def forget(self) -> None:
        """Leave the weights to the engine."""
        self.passes = [replace(p, rows=None, scale=None, shift=None, constants=None) for p in self.passes]

    def sizes(self, image: Shape) -> Sizes:
        if self._fixed is not None:
            if image != self.input:
                raise ValueError(
                    f"image={image}: the network has tensors of fixed shapes, and was traced for images of {self.input}; "
                    "resize"
                )
            return self._sized(*self._fixed)
        values = shapes(self.outline, image)
        for layer in self.passes:
            if layer.flattens is not None and values[layer.flattens][1:] != layer.attributes["kernel"]:
                raise ValueError(
                    f"image={image}: {layer.name or 'a linear layer'} was made for maps of "
                    f"{layer.attributes['kernel']}, and would get {values[layer.flattens][1:]}"
                )
        return self._sized(values[-1], values)

    def _sized(self, result: Shape, values: Sequence[Shape]) -> Sizes:
        sizes = [(values[0][0], values[0][1], values[0][2])]
        for layer in self.passes:
            height, width = (*values[layer.source][1:], 1, 1)[:2]
            channels = math.prod(sizes[layer.inputs[0]]) if layer.kind == "flatten" else layer.channels
            sizes.append((channels, height, width))
        positions = [0 if p.weight is None else math.prod(values[p.weight + 1][1:]) for p in self.passes]
        return Sizes(result, sizes, positions)


Lowered = FromFile | FromGraph


def _numbers(graph: Graph, place: int) -> int:
    return math.prod(graph.nodes[place].tensors["weight"].shape)
