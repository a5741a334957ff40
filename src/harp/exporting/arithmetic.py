"""Sums and products: a node that joins two values, or a scale and a shift when one operand is a constant."""

import torch
from torch import Tensor

from harp.exporting.draft import Draft, UnsupportedError, Value

Number = float | int
Operand = Value | Tensor | float | int


def affine(draft: Draft, value: Value, scale: Tensor | Number, shift: Tensor | Number) -> Value:
    """value · scale + shift, one number per channel or one for all."""
    numbers = {
        name: torch.as_tensor(number, dtype=torch.float64).cpu().expand(value.shape[0])
        for name, number in (("scale", scale), ("shift", shift))
    }
    return draft.add("affine", value, shape=value.shape, tensors=numbers)


def add(draft: Draft, first: Operand, second: Operand, alpha: Number = 1) -> Value:
    """first + alpha · second."""
    if isinstance(second, Value):
        scaled = second if alpha == 1 else affine(draft, second, alpha, 0.0)
        return _join(draft, "add", first, scaled) if isinstance(first, Value) else _shift(draft, scaled, first, 1)
    assert isinstance(first, Value)
    return _shift(draft, first, second, alpha)


def subtract(draft: Draft, first: Operand, second: Operand, alpha: Number = 1) -> Value:
    """first - alpha · second."""
    return add(draft, first, second, -alpha)


def subtract_from(draft: Draft, first: Operand, second: Operand, alpha: Number = 1) -> Value:
    """second - alpha · first."""
    return add(draft, second, first, -alpha)


def negate(draft: Draft, value: Value) -> Value:
    return affine(draft, value, -1.0, 0.0)


def multiply(draft: Draft, first: Operand, second: Operand) -> Value:
    if isinstance(first, Value):
        return _join(draft, "mul", first, second) if isinstance(second, Value) else _scale(draft, first, second)
    assert isinstance(second, Value)
    return _scale(draft, second, first)


def divide(draft: Draft, first: Operand, second: Operand) -> Value:
    """first / second, where second is a constant."""
    if isinstance(second, Value):
        raise UnsupportedError("it divides by a value that depends on the image")
    assert isinstance(first, Value)
    return affine(draft, first, 1 / _per_channel(second, first), 0.0)


def _shift(draft: Draft, value: Value, constant: Tensor | Number, alpha: Number) -> Value:
    return affine(draft, value, 1.0, _per_channel(constant, value) * alpha)


def _scale(draft: Draft, value: Value, constant: Tensor | Number) -> Value:
    return affine(draft, value, _per_channel(constant, value), 0.0)


def _join(draft: Draft, op: str, first: Value, second: Value) -> Value:
    shapes, full = {first.shape, second.shape}, draft.shape
    if not shapes <= {full, (full[0], *[1] * (len(full) - 1))} or full not in shapes:
        raise UnsupportedError(f"it joins {first.shape} and {second.shape}: expected equal shapes, or one of (c, 1, 1)")
    return draft.add(op, first, second)


def _per_channel(constant: Tensor | Number, value: Value) -> Tensor:
    """One number per channel in float64. Raises UnsupportedError when the constant varies over the map or the batch."""
    numbers = torch.as_tensor(constant, dtype=torch.float64)
    rank = len(value.shape) + 1
    shape = (1,) * (rank - numbers.dim()) + tuple(numbers.shape)
    if len(shape) != rank or shape[1] not in (1, value.shape[0]) or numbers.numel() != shape[1]:
        raise UnsupportedError(f"its constant of shape {tuple(numbers.shape)} is not one number per channel")
    return numbers.flatten()
