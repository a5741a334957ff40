"""A tensor as bytes: where its non-zeros are, what they are, compressed; and back, believing nothing.

Positions are gaps to the previous non-zero, one byte each; 255 means "255 further, and not here". Values are split
into byte planes (all highest bytes, …), because sign and exponent repeat and the rest does not. Then deflate, whose
Huffman codes come to the entropy of both (docs/decisions/0012-deflate-not-zstd.md).
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np

from harp.runtime.quantizing import dequantized, quantized, upper_bits, upper_halves

DENSE_ABOVE = 0.6
"""A tensor that keeps more than this is stored without positions: they would cost more than its zeros."""
_DTYPES = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4"), "int8": np.dtype("i1")}
_SCALES = np.dtype("<u2")
"""Of int8: one per output, the upper half of a float32."""
_SLACK, _MOST_RATIO = 2**16, 64
"""Every blob expands to at most 64 KiB and 64 times its size: no small file fills the memory."""
_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY)
_SAMPLE = 2**14
_END = zlib.compressobj(wbits=-15).flush()
"""The last block, empty."""


@dataclass(frozen=True)
class Sparse:
    """A tensor by its non-zeros: ascending positions in the flattened tensor; None when all are there."""

    shape: tuple[int, ...]
    positions: np.ndarray | None
    values: np.ndarray

    def dense(self) -> np.ndarray:
        if self.positions is None:
            return self.values.reshape(self.shape)
        flat = np.zeros(math.prod(self.shape), np.float32)
        flat[self.positions] = self.values
        return flat.reshape(self.shape)


def array_of(tensor: Sparse | np.ndarray) -> np.ndarray:
    """A tensor as a dense array, however it is held."""
    return np.ascontiguousarray(tensor.dense() if isinstance(tensor, Sparse) else tensor, np.float32)


@dataclass(frozen=True)
class Blueprint:
    """What the header says of a blob: enough to know every size before unpacking."""

    shape: tuple[int, ...]
    values: str
    kept: int
    gaps: int | None
    """Bytes of gap codes; None: no positions, all values are there."""

    @property
    def size_bytes(self) -> int:
        return (self.gaps or 0) + self.kept * _DTYPES[self.values].itemsize + self.scale_bytes

    @property
    def scale_bytes(self) -> int:
        return _SCALES.itemsize * self.shape[0] if self.values == "int8" else 0


def pack_tensor(tensor: np.ndarray, values: str) -> tuple[Blueprint, bytes]:
    """``values`` is f32, f16 or int8, which is rounded to 255 steps per output, the first side of the tensor.

    Raises ValueError when a value is not finite, or too large for f16.
    """
    if tensor.dtype != np.float32:
        raise ValueError(f"has dtype {tensor.dtype}: expected float32")
    flat = np.ascontiguousarray(tensor, np.float32).reshape(-1)
    numbers, scales = _quantized(flat, tensor.shape) if values == "int8" else (_rounded(flat, values), None)
    positions = np.flatnonzero(numbers if values == "int8" else flat)  # -0.0 is a zero, too
    sparse = len(positions) <= DENSE_ABOVE * flat.size
    gaps = gap_codes(positions) if sparse else np.empty(0, np.uint8)
    numbers = numbers[positions] if sparse else numbers
    planes = [*_planes(numbers), *([] if scales is None else _planes(scales))]
    blob = _deflate([part.tobytes() for part in (gaps, *planes) if part.size])
    return Blueprint(tuple(tensor.shape), values, len(numbers), len(gaps) if sparse else None), blob


def _rounded(flat: np.ndarray, values: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        numbers = flat.astype(_DTYPES[values])
    if not np.isfinite(numbers).all():
        wrong = flat[~np.isfinite(numbers)][0]
        raise ValueError(f"holds {wrong}, which {values} cannot: expected finite numbers, below 65504 for f16")
    return numbers


def _quantized(flat: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Eight bits per number and the halves of the scales. What rounds to zero is a zero like any other."""
    numbers, scales = quantized(flat, _outputs(np.arange(flat.size), shape), shape[0])
    return numbers, upper_bits(scales).astype(_SCALES)


def _planes(numbers: np.ndarray) -> np.ndarray:
    return numbers.view(np.uint8).reshape(-1, numbers.itemsize).T


def _outputs(positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of numbers at these places of a weight, the output to which they belong."""
    return positions // max(1, math.prod(shape[1:]))


def unpack_tensor(blob: memoryview, plan: Blueprint) -> Sparse:
    """Raises ValueError when the blob is not what the header says, or a position or value cannot be."""
    raw = _inflate(blob, plan.size_bytes)
    dtype, skip = _DTYPES[plan.values], plan.gaps or 0
    end = skip + plan.kept * dtype.itemsize
    values = _from_planes(raw[skip:end], dtype).astype(np.float32)
    positions = None if plan.gaps is None else _positions(raw[:skip], plan.kept, math.prod(plan.shape))
    if plan.values == "int8":
        places = np.arange(plan.kept) if positions is None else positions
        scales = upper_halves(_from_planes(raw[end:], _SCALES))
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise ValueError("holds a scale that is not a positive finite number")
        with np.errstate(over="ignore"):
            values = dequantized(values, _outputs(places, plan.shape), scales)
    if not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    return Sparse(plan.shape, positions, values)


def _from_planes(raw: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(raw.reshape(dtype.itemsize, -1).T).view(dtype).reshape(-1)


def check_plan(plan: Blueprint) -> None:
    """Raise ValueError unless the numbers of a header can belong to one tensor."""
    elements = math.prod(plan.shape)
    if plan.values not in _DTYPES:
        raise ValueError(f"values={plan.values!r}: expected one of {', '.join(_DTYPES)}")
    if plan.values == "int8" and not plan.shape:
        raise ValueError("values='int8' and no outputs: expected a shape that begins with them")
    if plan.gaps is None and plan.kept != elements:
        raise ValueError(f"{plan.kept} values for {elements} elements, and no positions")
    if plan.gaps is not None and not plan.kept <= plan.gaps <= plan.kept + elements // 255:
        raise ValueError(f"{plan.gaps} bytes of positions for {plan.kept} of {elements} elements")
    if not 0 <= plan.kept <= elements:
        raise ValueError(f"{plan.kept} values for {elements} elements")


def gap_codes(positions: np.ndarray) -> np.ndarray:
    """The gap before each of ascending positions, one byte each; 255 means "255 further, and not here"."""
    gaps = np.diff(positions, prepend=-1) - 1
    escapes = gaps // 255
    codes = np.full(len(gaps) + int(escapes.sum()), 255, np.uint8)
    codes[np.cumsum(escapes + 1) - 1] = gaps % 255
    return codes


def _positions(codes: np.ndarray, kept: int, elements: int) -> np.ndarray:
    ends = codes != 255
    if np.count_nonzero(ends) != kept or (codes.size and not ends[-1]):
        raise ValueError(f"holds {np.count_nonzero(ends)} positions, expected {kept}")
    # Every code moves on by itself, and by one more where it ends: a non-zero lies before the next gap begins.
    reached = np.cumsum(codes, dtype=np.int64)[ends] + np.arange(kept)
    if kept and reached[-1] >= elements:
        raise ValueError(f"holds position {reached[-1]}, beyond its {elements} elements")
    return reached


def _deflate(parts: list[bytes]) -> bytes:
    """Every part by what suits it best; stored as it is when it would expand too far."""
    packed = b"".join(_deflate_with(part, 9, _strategy_for(part)) for part in parts) + _END
    if sum(map(len, parts)) <= _most(len(packed)):
        return packed
    return b"".join(_deflate_with(part, 0, zlib.Z_DEFAULT_STRATEGY) for part in parts) + _END


def _strategy_for(part: bytes) -> int:
    """The strategy with the shortest result on the middle of the part: trying all on all of it would take seconds."""
    start = max(0, len(part) - _SAMPLE) // 2
    return min(_STRATEGIES, key=lambda strategy: len(_deflate_with(part[start : start + _SAMPLE], 9, strategy)))


def _deflate_with(part: bytes, level: int, strategy: int) -> bytes:
    """Blocks of their own statistics, and so Huffman codes, that others may follow."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)


def _most(compressed: int) -> int:
    return _SLACK + _MOST_RATIO * compressed


def _inflate(blob: memoryview, size: int) -> np.ndarray:
    if size > _most(len(blob)):
        raise ValueError(f"{len(blob):,} bytes that would become {size:,}: no file of harp's is packed that tightly")
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(blob, size + 1)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed ({error})") from None
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"does not decompress to the {size:,} bytes that the header states")
    return np.frombuffer(raw, np.uint8)
