"""Functions of single numbers."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harp.exporting.arithmetic import add, extreme, multiply, scaled
from harp.exporting.draft import Draft, UnsupportedError, Value

aten = torch.ops.aten
Number = float | int


def _unary(op: str) -> Callable[..., Value]:
    return lambda draft, value, *how: _of(draft, op, value)


def _of(draft: Draft, op: str, value: Value, **attributes: Any) -> Value:
    return draft.add(op, value, shape=value.shape, attributes=attributes)


def clamp(draft: Draft, value: Value, low: Any = None, high: Any = None) -> Value:
    """Between numbers, or between constants of a shape that broadcasts."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        for op, bound in (("maximum", low), ("minimum", high)):
            value = value if bound is None else _again(value, extreme(op)(draft, value, bound))
        return value
    if isinstance(low, Value) or isinstance(high, Value):
        raise UnsupportedError("its bounds depend on the image")
    if low == 0 and high in (None, 6):
        return _of(draft, "relu" if high is None else "relu6", value)
    if low is not None and not math.isinf(low):
        value = _again(value, _of(draft, "at_least", value, bound=float(low)))
    if high is not None and not math.isinf(high):
        value = _again(value, _of(draft, "at_most", value, bound=float(high)))
    return value


def _again(value: Value, made: Value) -> Value:
    return Value(made.number, made.shape, value.batch, value.merged)


def _leaky_relu(draft: Draft, value: Value, slope: Number = 0.01) -> Value:
    return _of(draft, "leaky_relu", value, slope=float(slope))


def _gelu(draft: Draft, value: Value, approximate: str = "none") -> Value:
    return _of(draft, "gelu", value, tanh=approximate == "tanh")


def _elu(draft: Draft, value: Value, alpha: Number = 1.0, scale: Number = 1.0, input_scale: Number = 1.0) -> Value:
    if input_scale != 1:
        raise UnsupportedError(f"it has input_scale={input_scale}: expected 1")
    made = _again(value, _of(draft, "elu", value, alpha=float(alpha)))
    return made if scale == 1 else scaled(draft, made, scale)


def _selu(draft: Draft, value: Value) -> Value:
    return _elu(draft, value, 1.6732632423543772, 1.0507009873554805)


def _softplus(draft: Draft, value: Value, beta: Number = 1, threshold: Number = 20) -> Value:
    if beta == 1:
        return _of(draft, "softplus", value)
    made = _of(draft, "softplus", _again(value, scaled(draft, value, beta)))
    return scaled(draft, _again(value, made), 1 / beta)


def _power(draft: Draft, value: Any, exponent: Any) -> Value:
    if not isinstance(value, Value) or not isinstance(exponent, float | int):
        raise UnsupportedError("its exponent is not one number")
    if exponent == 2:
        return multiply(draft, value, value)
    if exponent == 1:
        return value
    return _of(draft, "power", value, exponent=float(exponent))


def _prelu(draft: Draft, value: Value, weight: Tensor) -> Value:
    """max(x, 0) - w · max(-x, 0)."""
    if isinstance(weight, Value):
        raise UnsupportedError("its weights depend on the image")
    shape = (-1,) + (1,) * (value.rank - 2)
    below = _again(value, _of(draft, "relu", _again(value, scaled(draft, value, -1.0))))
    below = _again(value, multiply(draft, below, -weight.reshape(shape)))
    return add(draft, _again(value, _of(draft, "relu", value)), below)


def _glu(draft: Draft, value: Value, dim: int = -1) -> Value:
    axis = value.axis(dim)
    half = value.shape[axis] // 2
    first, second = (draft.taken(value, axis, range(start, start + half)) for start in (0, half))
    gate = _of(draft, "sigmoid", second)
    return multiply(draft, _again(value, first), _again(value, gate))


def _where(draft: Draft, condition: Any, first: Any, second: Any) -> Value:
    """By a constant condition: each part times its 0s and 1s."""
    if isinstance(condition, Value):
        raise UnsupportedError("its condition depends on the image")
    parts = []
    for part, mask in ((first, condition), (second, ~condition)):
        weights = mask.to(torch.float64)
        if isinstance(part, Value):
            parts.append(_again(part, multiply(draft, part, weights)))
        else:
            number = torch.as_tensor(part, dtype=torch.float64)
            lowest = torch.finfo(torch.float32).min / 4
            parts.append(number.clamp(lowest, -lowest) * weights)
    return add(draft, parts[0], parts[1])


def _masked_fill(draft: Draft, value: Value, mask: Any, filling: Any) -> Value:
    return _where(draft, mask, filling, value)


ACTIVATING: Mapping[Any, Callable[..., Any]] = {
    **{
        getattr(aten, name): _unary(name)
        for name in (
            *("relu", "relu6", "sigmoid", "silu", "hardswish", "hardsigmoid", "tanh", "mish"),
            *("exp", "log", "sqrt", "rsqrt", "abs", "sin", "cos", "erf"),
        )
    },
    aten.hardtanh: lambda draft, value, low=-1, high=1: clamp(draft, value, low, high),
    aten.clamp: clamp,
    aten.clamp_min: clamp,
    aten.clamp_max: lambda draft, value, high: clamp(draft, value, None, high),
    aten.leaky_relu: _leaky_relu,
    aten.gelu: _gelu,
    aten.elu: _elu,
    aten.selu: _selu,
    aten.celu: lambda draft, value, alpha=1.0: _unless(alpha == 1, lambda: _elu(draft, value)),
    aten.softplus: _softplus,
    aten.log_sigmoid: lambda draft, value: _of(draft, "log", _again(value, _of(draft, "sigmoid", value))),
    aten.pow: _power,
    aten.square: lambda draft, value: multiply(draft, value, value),
    aten.reciprocal: lambda draft, value: _of(draft, "power", value, exponent=-1.0),
    aten.prelu: _prelu,
    aten.glu: _glu,
    aten.where: _where,
    aten.masked_fill: _masked_fill,
}


def _unless(fits: bool, make: Callable[[], Value]) -> Value:
    if not fits:
        raise UnsupportedError("it has another alpha than 1")
    return make()
