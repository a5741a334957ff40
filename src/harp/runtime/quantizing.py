"""Weights as eight bits times one scale per output. A scale is the upper half of a float32, of few different values."""

import numpy as np

_LARGEST = 127
_DROPPED = np.uint32(20)
"""Of the 23 bits after the leading one of a scale. With three left, scales cost little space, and steps are 6 % wider."""


def quantized(values: np.ndarray, outputs: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 for float32 ``values``, of which value i belongs to output ``outputs[i]``, and the scales of ``count`` outputs.

    The scale is the smallest of three binary places with which the largest value of its output fits into -127 to 127; 1
    where there is none.
    Raises ValueError when a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"holds {values[~np.isfinite(values)][0]}, which int8 cannot: expected finite numbers")
    largest = np.zeros(count, np.float32)
    np.maximum.at(largest, outputs, np.abs(values))
    # Below the smallest normal number a scale would lose digits.
    exact = np.maximum(largest / np.float32(_LARGEST), np.finfo(np.float32).tiny)
    above = (exact.view(np.uint32) + ((np.uint32(1) << _DROPPED) - np.uint32(1))) >> _DROPPED
    scales = (above << _DROPPED).view(np.float32)
    scales[largest == 0] = 1
    rounded = np.rint(values.astype(np.float64) / scales[outputs])
    return np.clip(rounded, -_LARGEST, _LARGEST).astype(np.int8), scales


def dequantized(values: np.ndarray, outputs: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The float32 that int8 values stand for."""
    return values.astype(np.float32) * scales[outputs]


def upper_halves(bits: np.ndarray) -> np.ndarray:
    """The float32 whose upper 16 bits are given, and whose lower ones are 0."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def upper_bits(scales: np.ndarray) -> np.ndarray:
    """The 16 bits that are stored of each scale."""
    return (scales.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
