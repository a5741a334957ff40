"""The weights of a layer as a C file holds them: f32, f16, or eight bits times a scale per output."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harp.runtime.lowering import Layer, Rows
from harp.runtime.packing import gap_codes
from harp.runtime.quantizing import dequantized, quantized, upper_bits

Values = Literal["f32", "f16", "int8"]
DENSE_ABOVE = 0.8
"""A layer that keeps more than this is stored with its zeros: their values cost less than all the gaps."""


@dataclass(frozen=True)
class Stored:
    """One layer's constants."""

    gaps: np.ndarray | None
    """None: no zero is left out."""
    values: np.ndarray
    scales: np.ndarray | None
    """The upper halves of the floats."""
    bias: np.ndarray

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.gaps, self.values, self.scales, self.bias) if part is not None)


def store(layer: Layer, values: Values) -> tuple[Layer, Stored | None]:
    """The layer as it will compute, its weights rounded, and its constants. Raises ValueError naming the layer."""
    if layer.rows is None:
        return layer, None
    try:
        rows, kept, scales = _rounded(layer.rows, values)
    except ValueError as error:
        raise ValueError(f"weight of {layer.name or layer.kind!r} {error}") from None
    return replace(layer, rows=rows), _with_gaps(rows, kept, scales)


def _rounded(rows: Rows, values: Values) -> tuple[Rows, np.ndarray, np.ndarray | None]:
    """Weights that became zero are left out."""
    outputs = np.repeat(np.arange(rows.outputs), np.diff(rows.starts))
    scales = None
    if values == "int8":
        stored, scales = quantized(rows.values, outputs, rows.outputs)
        rounded = dequantized(stored, outputs, scales)
    elif values == "f16":
        with np.errstate(over="ignore"):
            stored = rows.values.astype(np.float16)
        rounded = stored.astype(np.float32)
    else:
        stored = rounded = rows.values
    if not np.isfinite(rounded).all():
        wrong = rows.values[~np.isfinite(rounded)][0]
        raise ValueError(f"holds {wrong}, which {values} cannot: expected finite numbers, below 65504 for f16")
    stay = stored != 0
    before = np.concatenate([[0], np.cumsum(stay)])
    rows = replace(rows, starts=before[rows.starts], columns=rows.columns[stay], values=rounded[stay])
    return rows, stored[stay], scales


def _with_gaps(rows: Rows, kept: np.ndarray, scales: np.ndarray | None) -> Stored:
    halves = None if scales is None else upper_bits(scales)
    width = rows.inputs * rows.window
    elements = rows.outputs * width
    outputs = np.repeat(np.arange(rows.outputs, dtype=np.int64), np.diff(rows.starts))
    positions = outputs * width + rows.columns
    if len(kept) <= DENSE_ABOVE * elements:
        return Stored(gap_codes(positions), kept, halves, rows.bias)
    dense = np.zeros(elements, kept.dtype)
    dense[positions] = kept
    return Stored(None, dense, halves, rows.bias)
