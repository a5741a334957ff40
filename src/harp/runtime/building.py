"""What the compiled engine is told of the layers of a network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harp.runtime.lowering import Layer


def building(engine: Any, layers: Sequence[Layer]) -> Any:
    """A builder that has been told all layers."""
    builder = engine.Builder()
    for layer in layers:
        _add(builder, layer)
    return builder


def _add(builder: Any, layer: Layer) -> None:
    a = layer.attributes
    window = [*a.get("kernel", (1, 1)), *a.get("stride", (1, 1)), *a.get("padding", (0, 0)), *a.get("dilation", (1, 1))]
    counted = a.get("count_padding", True)
    builder.add(
        layer.kind, list(layer.inputs), layer.residual, window, counted, layer.activation, layer.slope, layer.pool
    )
    if layer.rows is not None:
        r = layer.rows
        builder.weights(r.outputs, r.inputs, r.groups, r.starts, r.columns, r.values, r.bias)
    if layer.numbers is not None:
        builder.details(np.array(layer.numbers, np.int64), layer.constants)
    if layer.scale is not None:
        builder.scales(layer.scale, layer.shift)
