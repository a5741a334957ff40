"""The layers of a network in numpy: what runs it where the engine could not be compiled. Slow, and as correct."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harp.runtime.lowering import Layer, Rows
from harp.runtime.numpy_tensors import TENSOR_KINDS

Size = tuple[int, int, int]
"""Channels, height, width."""
_GATHERED_BYTES = 2**26
"""What is copied out of the images for one product of matrices; more images than that are taken in turns."""


class NumpyEngine:
    """Offers what the compiled engine does, for the same layers. ``threads`` is only repeated: numpy has its own."""

    isa = "numpy"

    def __init__(self, layers: Sequence[Layer], threads: int) -> None:
        self.threads = threads
        self._layers = tuple(layers)
        reads = [(*layer.inputs, layer.residual) for layer in layers]
        self._last_reader = {value: place for place, values in enumerate(reads) for value in values}

    def run(self, x: np.ndarray, sizes: Sequence[Size], out: np.ndarray, autotune: bool) -> None:
        """Write the last value for the images ``x`` to ``out``; ``sizes`` are those of every value."""
        values = {0: _in_unit_range(x)}
        with np.errstate(all="ignore"):  # numbers overflow to infinity here as they do in the engine, without a word
            for place, layer in enumerate(self._layers):
                result = _compute(layer, values, sizes[place + 1])
                values[place + 1] = np.broadcast_to(result, (len(x), *result.shape[1:]))  # a constant is there once
                for value in {*layer.inputs, layer.residual} - {-1}:
                    if self._last_reader[value] == place:
                        del values[value]
        out[:] = values[len(self._layers)].reshape(out.shape)

    def describe(self, batch: int, sizes: Sequence[Size], autotune: bool) -> list[str]:
        return ["numpy"] * len(self._layers)


def _in_unit_range(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


def _compute(layer: Layer, values: dict[int, np.ndarray], size: Size) -> np.ndarray:
    inputs = [values[value] for value in layer.inputs]
    result = _conv(layer, layer.rows, inputs[0]) if layer.rows is not None else _KINDS[layer.kind](layer, size, *inputs)
    if layer.residual >= 0:
        result = result + values[layer.residual]
    result = _ACTIVATIONS[layer.activation](result, layer.slope).astype(np.float32, copy=False)
    return _two_by_two(result) if layer.pool else result


def _conv(layer: Layer, rows: Rows, x: np.ndarray) -> np.ndarray:
    """One product of matrices per group, with those columns alone that have a weight."""
    windows = _windows(layer, x)
    _, _, height, width, _, across = windows.shape
    result = np.empty((len(x), rows.outputs, height, width), np.float32)
    each = rows.outputs // rows.groups
    for group in range(rows.groups):
        first, end = rows.starts[group * each], rows.starts[(group + 1) * each]
        outputs = np.repeat(np.arange(each), np.diff(rows.starts[group * each : (group + 1) * each + 1]))
        columns, places = np.unique(rows.columns[first:end], return_inverse=True)
        weight = np.zeros((each, len(columns)), np.float32)
        weight[outputs, places] = rows.values[first:end]
        channels, window = group * rows.inputs + columns // rows.window, columns % rows.window
        at_once = max(1, _GATHERED_BYTES // max(1, 4 * len(columns) * height * width))
        for start in range(0, len(x), at_once):
            some = slice(start, start + at_once)
            gathered = windows[some, channels, :, :, window // across, window % across]  # (columns, n, h, w)
            pixels = gathered.shape[1:]
            products = weight @ gathered.reshape(len(columns), math.prod(pixels))
            result[some, group * each : (group + 1) * each] = products.reshape(each, *pixels).swapaxes(0, 1)
    return result + rows.bias[:, None, None]


def _windows(layer: Layer, x: np.ndarray) -> np.ndarray:
    """A view of ``x`` as (n, c, height, width, kernel height, kernel width)."""
    a = layer.attributes
    (kh, kw), (sh, sw) = a["kernel"], a.get("stride", (1, 1))
    (ph, pw), (dh, dw) = a.get("padding", (0, 0)), a.get("dilation", (1, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    reach = (dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    return sliding_window_view(padded, reach, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]


def _pool_windows(layer: Layer, size: Size, x: np.ndarray, fill: float) -> np.ndarray:
    """As :func:`_windows`, for a pooling whose last windows may reach beyond the padding."""
    a = layer.attributes
    sides = zip(x.shape[2:], size[1:], a["kernel"], a["stride"], a["padding"], strict=True)
    around = [(pad, max(0, (out - 1) * stride + kernel - pad - side)) for side, out, kernel, stride, pad in sides]
    padded = np.pad(x, ((0, 0), (0, 0), *around), constant_values=fill)
    windows = sliding_window_view(padded, a["kernel"], (2, 3))[:, :, :: a["stride"][0], :: a["stride"][1]]
    return windows[:, :, : size[1], : size[2]]


def _max_pool(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    return _pool_windows(layer, size, x, -np.inf).max((4, 5))


def _avg_pool(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    a = layer.attributes
    sides = zip(x.shape[2:], size[1:], a["kernel"], a["stride"], a["padding"], strict=True)
    down, across = (_counts(*side, a["count_padding"]) for side in sides)
    return _pool_windows(layer, size, x, 0.0).sum((4, 5)) / np.outer(down, across).astype(np.float32)


def _counts(side: int, out: int, kernel: int, stride: int, padding: int, count_padding: bool) -> np.ndarray:
    """How many numbers of one direction each window averages over."""
    first = np.arange(out) * stride - padding
    if count_padding:
        return np.minimum(first + kernel, side + padding) - first
    return np.minimum(first + kernel, side) - np.maximum(first, 0)


def _adaptive_avg_pool(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    for axis, out in ((2, size[1]), (3, size[2])):
        side = x.shape[axis]
        bounds = [(i * side // out, -(-(i + 1) * side // out)) for i in range(out)]
        x = np.stack([x.take(range(*bound), axis).mean(axis) for bound in bounds], axis)
    return x


def _two_by_two(x: np.ndarray) -> np.ndarray:
    height, width = (side - side % 2 for side in x.shape[2:])
    return x[:, :, :height, :width].reshape(*x.shape[:2], height // 2, 2, width // 2, 2).max((3, 5))


def _affine(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    assert layer.scale is not None
    assert layer.shift is not None
    return x * layer.scale[:, None, None] + layer.shift[:, None, None]


def _softmax(layer: Layer, size: Size, x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


_KINDS: dict[str, Callable[..., np.ndarray]] = {
    "activation": lambda layer, size, x: x,
    "affine": _affine,
    "add": lambda layer, size, a, b: a + b,
    "mul": lambda layer, size, a, b: a * b,
    "concat": lambda layer, size, *parts: np.concatenate(parts, 1),
    "flatten": lambda layer, size, x: x.reshape(len(x), *size),
    "softmax": _softmax,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    **TENSOR_KINDS,
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float32])(x)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, np.float32(0))


_ACTIVATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "none": lambda x, slope: x,
    "relu": lambda x, slope: np.maximum(x, 0),
    "relu6": lambda x, slope: np.clip(x, 0, 6),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, x * np.float32(slope)),
    "sigmoid": lambda x, slope: _sigmoid(x),
    "silu": lambda x, slope: x * _sigmoid(x),
    "hardswish": lambda x, slope: x * (np.clip(x + 3, 0, 6) / 6),
    "hardsigmoid": lambda x, slope: np.clip(x + 3, 0, 6) / 6,
    "gelu": lambda x, slope: 0.5 * x * (1 + _erf(x / np.float32(math.sqrt(2)))),
    "tanh": lambda x, slope: np.tanh(x),
    "elu": lambda x, slope: np.where(x > 0, x, np.float32(slope) * np.expm1(np.minimum(x, 0))),
    "mish": lambda x, slope: x * np.tanh(_softplus(x)),
    "softplus": lambda x, slope: _softplus(x),
    "exp": lambda x, slope: np.exp(x),
    "log": lambda x, slope: np.log(x),
    "sqrt": lambda x, slope: np.sqrt(x),
    "rsqrt": lambda x, slope: 1 / np.sqrt(x),
    "abs": lambda x, slope: np.abs(x),
    "sin": lambda x, slope: np.sin(x),
    "cos": lambda x, slope: np.cos(x),
    "erf": lambda x, slope: _erf(x),
    "power": lambda x, slope: x ** np.float32(slope),
    "at_least": lambda x, slope: np.maximum(x, np.float32(slope)),
    "at_most": lambda x, slope: np.minimum(x, np.float32(slope)),
    "gelu_tanh": lambda x, slope: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}
