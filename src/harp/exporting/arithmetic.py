"""Sums and products: a node that joins two values, or a scale and a shift when one operand is a constant."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from harp.exporting.draft import Draft, UnsupportedError, Value

Number = float | int
Operand = Value | Tensor | float | int


def affine(draft: Draft, value: Value, scale: Tensor | Number, shift: Tensor | Number) -> Value:
    """value · scale + shift, one number per channel (the first axis) or one for all."""
    return _affine(draft, "affine", value, value.shape[0], scale, shift)


def affine_last(draft: Draft, value: Value, scale: Tensor | Number, shift: Tensor | Number) -> Value:
    """value · scale + shift, one number per entry of the last axis or one for all."""
    return _affine(draft, "affine_last", value, value.shape[-1], scale, shift)


def scaled(draft: Draft, value: Value, scale: Number, shift: Number = 0.0) -> Value:
    return (affine if len(value.shape) in (1, 3) else affine_last)(draft, value, scale, shift)


def _affine(draft: Draft, op: str, value: Value, size: int, scale: Tensor | Number, shift: Tensor | Number) -> Value:
    numbers = {
        name: torch.as_tensor(number, dtype=torch.float64).cpu().expand(size)
        for name, number in (("scale", scale), ("shift", shift))
    }
    return replace(value, number=draft.add(op, value, shape=value.shape, tensors=numbers).number)


def add(draft: Draft, first: Operand, second: Operand, alpha: Number = 1) -> Value:
    """first + alpha · second."""
    if isinstance(first, Value) and isinstance(second, Value):
        return join(draft, "add", first, second if alpha == 1 else scaled(draft, second, alpha))
    if isinstance(second, Value):
        assert not isinstance(first, Value)
        return _shift(draft, second if alpha == 1 else scaled(draft, second, alpha), first, 1)
    assert isinstance(first, Value)
    return _shift(draft, first, second, alpha)


def subtract(draft: Draft, first: Operand, second: Operand, alpha: Number = 1) -> Value:
    """first - alpha · second."""
    if isinstance(first, Value) and isinstance(second, Value) and alpha == 1 and len(second.shape) not in (1, 3):
        return join(draft, "sub", first, second)
    return add(draft, first, second, -alpha)


def subtract_from(draft: Draft, first: Operand, second: Operand, alpha: Number = 1) -> Value:
    """second - alpha · first."""
    return add(draft, second, first, -alpha)


def negate(draft: Draft, value: Value) -> Value:
    return scaled(draft, value, -1.0)


def multiply(draft: Draft, first: Operand, second: Operand) -> Value:
    if isinstance(first, Value) and isinstance(second, Value):
        return join(draft, "mul", first, second)
    value, constant = (first, second) if isinstance(first, Value) else (second, first)
    assert isinstance(value, Value)
    assert not isinstance(constant, Value)
    return _by_constant(draft, "mul", value, constant, lambda numbers: (numbers, 0.0))


def divide(draft: Draft, first: Operand, second: Operand, rounding_mode: str | None = None) -> Value:
    if rounding_mode is not None:
        raise UnsupportedError(f"it has rounding_mode={rounding_mode!r}: expected None")
    if isinstance(second, Value):
        if isinstance(first, Value):
            return join(draft, "div", first, second)
        return _of_two(draft, "div", _constant_beside(draft, second, first), second)
    assert isinstance(first, Value)
    return _by_constant(draft, "div", first, second, lambda numbers: (1 / numbers, 0.0))


def extreme(op: str) -> Callable[[Draft, Operand, Operand], Value]:
    """The larger or the smaller of two."""

    def handler(draft: Draft, first: Operand, second: Operand) -> Value:
        value = first if isinstance(first, Value) else second
        assert isinstance(value, Value)
        both = [v if isinstance(v, Value) else _constant_beside(draft, value, v) for v in (first, second)]
        together = join if isinstance(first, Value) == isinstance(second, Value) else _of_two
        return together(draft, op, both[0], both[1])

    return handler


def join(draft: Draft, op: str, first: Value, second: Value) -> Value:
    """A node of two values, which broadcast against each other while their images stay beside each other."""
    behind = {(value.rank - value.batch, value.merged, value.inner) for value in (first, second)}
    if len(behind) > 1:
        raise UnsupportedError(f"it joins {first.shape} and {second.shape}, and mixes the images of a batch")
    return _of_two(draft, op, first, second)


def _of_two(draft: Draft, op: str, first: Value, second: Value) -> Value:
    return draft.add(op, first, second, shape=tuple(torch.broadcast_shapes(first.shape, second.shape)))


def _shift(draft: Draft, value: Value, constant: Tensor | Number, alpha: Number) -> Value:
    if isinstance(constant, Tensor) and alpha != 1:
        constant = constant.double() * alpha
    elif alpha != 1:
        constant = constant * alpha
    return _by_constant(draft, "add", value, constant, lambda numbers: (1.0, numbers))


def _by_constant(
    draft: Draft,
    op: str,
    value: Value,
    constant: Tensor | Number,
    parts: Callable[[Tensor], tuple[Tensor | Number, Tensor | Number]],
) -> Value:
    """A scale and a shift where the constant varies along the channels or the last axis alone, else a node of two."""
    numbers = _without_batch(torch.as_tensor(constant, dtype=torch.float64), value)
    rank = len(value.shape)
    grows = any(here not in (1, there) for here, there in zip(numbers.shape, value.shape, strict=True))
    varying = [axis for axis in range(rank) if numbers.shape[axis] > 1]
    if not grows and varying in ([], [0]) and rank in (1, 3):
        return affine(draft, value, *parts(numbers.flatten()))
    if not grows and varying in ([], [rank - 1]):
        return affine_last(draft, value, *parts(numbers.flatten()))
    return _of_two(draft, op, value, draft.constant(numbers))


def _constant_beside(draft: Draft, value: Value, constant: Tensor | Number) -> Value:
    return draft.constant(_without_batch(torch.as_tensor(constant, dtype=torch.float64), value))


def _without_batch(numbers: Tensor, value: Value) -> Tensor:
    """A constant that broadcasts against torch's tensor, as one that broadcasts against its shape in the graph."""
    shape = (1,) * (value.rank - numbers.dim()) + tuple(numbers.shape)
    if len(shape) > value.rank or shape[value.batch] != 1:
        raise UnsupportedError(f"its constant of shape {tuple(numbers.shape)} is not the same for every image")
    seen = numbers.reshape(shape)
    return seen if value.merged else seen.squeeze(value.batch)
