"""torch.einsum of two tensors as a product of matrices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harp.exporting.draft import Draft, UnsupportedError, Value


@dataclass(frozen=True)
class _Factor:
    """A value with a letter for each of its axes."""

    value: Value
    letters: str

    def size(self, letter: str) -> int:
        return self.value.shape[self.letters.index(letter)]


def einsum(draft: Draft, equation: str, operands: Sequence[Value | Tensor], *how: Any) -> Value:
    given, _, result = equation.replace(" ", "").partition("->")
    letters = given.split(",")
    if len(letters) != 2 or "." in equation or not result or any(len(set(part)) < len(part) for part in letters):
        raise UnsupportedError(f"equation {equation!r}: expected two tensors, no dots and no diagonals")
    images = {part[v.batch] for part, v in zip(letters, operands, strict=True) if isinstance(v, Value)}
    merged = {v.merged for v in operands if isinstance(v, Value)}
    if len(images) != 1 or len(merged) != 1 or not images <= set(result):
        raise UnsupportedError(f"equation {equation!r} mixes the images of a batch")
    (image,) = images
    first, second = (_factor(draft, part, v, image) for part, v in zip(letters, operands, strict=True))
    return _product(draft, first, second, result if True in merged else result.replace(image, ""))


def _factor(draft: Draft, letters: str, operand: Value | Tensor, image: str) -> _Factor:
    if isinstance(operand, Tensor):
        if image in letters:
            raise UnsupportedError("it multiplies each image with another constant")
        return _Factor(draft.constant(operand), letters)
    return _Factor(operand, letters if operand.merged else letters.replace(image, ""))


def _product(draft: Draft, first: _Factor, second: _Factor, result: str) -> Value:
    a, b = set(first.letters), set(second.letters)
    if (a ^ b) - set(result):
        raise UnsupportedError("it sums a tensor before it multiplies it")
    shared = [letter for letter in result if letter in a & b]
    summed = [letter for letter in first.letters if letter in b and letter not in result]
    rows = [letter for letter in first.letters if letter not in b]
    columns = [letter for letter in second.letters if letter not in a]
    left = _matrix(draft, first, shared, rows, summed)
    right = _matrix(draft, second, shared, summed, columns)
    shape = (*left.shape[:-1], right.shape[-1])
    made = draft.add("matmul", left, right, shape=shape, attributes={"factor": 1.0})
    order = [*shared, *rows, *columns]
    sizes = [(first if letter in a else second).size(letter) for letter in order]
    return draft.permuted(draft.reshaped(made, sizes), [order.index(letter) for letter in result])


def _matrix(draft: Draft, factor: _Factor, shared: list[str], rows: list[str], columns: list[str]) -> Value:
    order = [*shared, *rows, *columns]
    turned = draft.permuted(factor.value, [factor.letters.index(letter) for letter in order])
    sizes = [math.prod(factor.size(letter) for letter in part) for part in (rows, columns)]
    return draft.reshaped(turned, (*(factor.size(letter) for letter in shared), *sizes))
