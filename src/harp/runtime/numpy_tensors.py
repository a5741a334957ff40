"""Steps on tensors in numpy, as engine/steps/tensors.h describes them. A tensor is (n, 1, numbers, 1) here."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from harp.runtime.details import PAIRINGS
from harp.runtime.graph import REDUCTIONS
from harp.runtime.lowering import Layer
from harp.runtime.views import MOST_AXES

Size = tuple[int, int, int]
_BOX = 3 + 3 * MOST_AXES


def _flat(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:]))  # -1 means nothing for no images


def _tensor(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32).reshape(len(x), 1, math.prod(x.shape[1:]), 1)


def _walked(flat: np.ndarray, extents: Sequence[int], offset: int, strides: Sequence[int]) -> np.ndarray:
    """A view (n, *extents) of the numbers of each image."""
    each = flat.itemsize
    steps = (flat.strides[0], *(stride * each for stride in strides))
    return as_strided(flat[:, offset:], (len(flat), *extents), steps)


def _numbers(layer: Layer) -> tuple[int, ...]:
    assert layer.numbers is not None
    return layer.numbers


def _constants(layer: Layer) -> np.ndarray:
    assert layer.constants is not None
    return layer.constants


def _copy(layer: Layer, size: Size, *inputs: np.ndarray) -> np.ndarray:
    flats = [_flat(x) for x in inputs] + [_constants(layer)[None]]
    out = np.zeros((max(len(x) for x in inputs), math.prod(size)), np.float32)
    numbers = _numbers(layer)
    for first in range(0, len(numbers), _BOX):
        source, *box = numbers[first : first + _BOX]
        extents, old, new = box[:MOST_AXES], box[MOST_AXES : 2 * MOST_AXES + 1], box[2 * MOST_AXES + 1 :]
        _walked(out, extents, new[0], new[1:])[:] = _walked(flats[source], extents, old[0], old[1:])
    return _tensor(out)


_JOINTS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _pairwise(layer: Layer, size: Size, *inputs: np.ndarray) -> np.ndarray:
    how, *rest = _numbers(layer)
    extents, a, b = rest[:MOST_AXES], rest[MOST_AXES : 2 * MOST_AXES + 1], rest[2 * MOST_AXES + 1 :]
    views = [_walked(_flat(x), extents, w[0], w[1:]) for x, w in zip(inputs, (a, b), strict=True)]
    return _tensor(_JOINTS[PAIRINGS[how]](*views))


def _rows(layer: Layer, x: np.ndarray) -> np.ndarray:
    row = _numbers(layer)[0]
    return _flat(x).reshape(len(x), math.prod(x.shape[1:]) // row, row)


def _rows_softmax(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    rows = _rows(layer, x)
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return _tensor(powers / powers.sum(-1, keepdims=True))


def _normalised(layer: Layer, x: np.ndarray, flags: Sequence[int]) -> np.ndarray:
    """Along the last axis."""
    centred, scaled, shifted = flags
    eps, vectors = _constants(layer)[0], _constants(layer)[1:].reshape(-1, x.shape[-1])
    if centred:
        x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    x = x * vectors[0] if scaled else x
    return x + vectors[-1] if shifted else x


def _rows_normalise(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    return _tensor(_normalised(layer, _rows(layer, x), _numbers(layer)[1:]))


def _normalise(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    return np.moveaxis(_normalised(layer, np.moveaxis(x, 1, -1), _numbers(layer)), -1, 1)


_REDUCED: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "mean": np.mean,
    "maximum": np.max,
    "minimum": np.min,
    "norm": lambda x, axis: np.sqrt((x * x).sum(axis)),
}


def _rows_reduce(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    return _tensor(_REDUCED[REDUCTIONS[_numbers(layer)[1]]](_rows(layer, x), -1))


def _matmul(layer: Layer, size: Size, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    batch, (rows, columns, steps), walks = _numbers(layer)[:4], _numbers(layer)[4:7], _numbers(layer)[7:]
    first = _walked(_flat(a), (*batch, rows, steps), walks[0], walks[1:7])
    second = _walked(_flat(b), (*batch, steps, columns), walks[7], walks[8:])
    return _tensor(first @ second * _constants(layer)[0])


def _pack(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    offset, *strides = _numbers(layer)
    return np.ascontiguousarray(_walked(_flat(x), size, offset, strides))


TENSOR_KINDS: dict[str, Callable[..., np.ndarray]] = {
    "channels": lambda layer, size, x: x[:, list(_numbers(layer))],
    "normalise": _normalise,
    "constant": lambda layer, size: _tensor(_constants(layer)[None]),
    "pack": _pack,
    "unpack": lambda layer, size, x: _tensor(x),
    "copy": _copy,
    "pairwise": _pairwise,
    "elementwise": lambda layer, size, x: x,
    "rows_softmax": _rows_softmax,
    "rows_normalise": _rows_normalise,
    "rows_reduce": _rows_reduce,
    "matmul": _matmul,
}
