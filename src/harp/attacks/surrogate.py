"""The same forward pass with gradients where the real ones are zero: for attacks on dead units and on rounding.

ReLU passes the gradient of a softplus as wide as its inputs are spread, so that a dead unit says how it would wake up.
A rounding step passes the gradient as it is, the straight-through estimate of Athalye et al. 2018 (BPDA). What the
network answers does not change by a bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SmoothGradients(TorchFunctionMode):
    """Inside, ReLU, ReLU6, hardtanh and rounding pass gradients everywhere.

    It sees what runs as Python: modules and functions of torch, and nothing inside a scripted or compiled program.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _SURROGATES:
            return func(*args, **kwargs)
        given = dict(zip(_ARGUMENTS.get(func, ("input",)), args, strict=False)) | kwargs
        x = given.pop("input", None)
        if not (isinstance(x, Tensor) and x.is_floating_point() and torch.is_grad_enabled()):
            return func(*args, **kwargs)
        if func in _IN_PLACE or given.pop("inplace", False):
            return x.copy_(_SURROGATES[func](x.clone(), **given))
        return _SURROGATES[func](x, **given)


class _SoftClamp(torch.autograd.Function):
    """A clamp, and backwards the logistic function of the distance to each end over the spread of the inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ends = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.ends
        spread = x.float().std(correction=0).to(x.dtype).clamp_min(torch.finfo(x.dtype).tiny)
        slope = torch.sigmoid((x - low) / spread)
        if high < float("inf"):
            slope = slope * torch.sigmoid((high - x) / spread)
        return gradients[0] * slope, None, None


class _Straight(torch.autograd.Function):
    """Any step function, and backwards the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        return step(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _relu(x: Tensor, **rest: object) -> Tensor:
    return _SoftClamp.apply(x, 0.0, float("inf"))  # type: ignore[return-value]


def _relu6(x: Tensor, **rest: object) -> Tensor:
    return _SoftClamp.apply(x, 0.0, 6.0)  # type: ignore[return-value]


def _hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return _SoftClamp.apply(x, min_val, max_val)  # type: ignore[return-value]


def _straight(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, **rest: _Straight.apply(x, lambda values: step(values, **rest))


_ARGUMENTS = {
    F.relu: ("input", "inplace"),
    F.relu6: ("input", "inplace"),
    F.hardtanh: ("input", "min_val", "max_val", "inplace"),
}
_IN_PLACE = (torch.relu_, F.relu_, Tensor.relu_)
_SURROGATES: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu, *_IN_PLACE), _relu),
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    **{
        seen: _straight(step)
        for step in (torch.round, torch.floor, torch.ceil, torch.trunc, torch.sign)
        for seen in (step, getattr(Tensor, step.__name__))
    },
}
