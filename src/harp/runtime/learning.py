"""Layers of which most weights are zero, in training: the engine's, as torch's autograd wants them. It needs torch.

Between them maps lie with their images side by side: of a tensor (n, c, h, w) the n is innermost in memory. Every shift of
a window then moves whole vectors. What torch computes entry by entry keeps that order; the rest copies, and is right.
"""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harp.runtime.session import compiled

_NOTHING = np.empty(0, np.float32)


class Learning:
    """Threads for layers that learn. No bit of a result depends on how many they are."""

    def __init__(self, threads: int) -> None:
        self._engine = compiled()
        self.made = self._engine.Learning(threads, os.environ.get("HARP_ISA", ""))

    def layer(self, shape: torch.Size, groups: int, window: tuple[int, ...], index: Tensor) -> "SparseLayer":
        """A convolution or a linear layer whose weight has this shape, and is zero but at ``index`` of its flat entries,
        ascending. ``window`` is its kernel, stride, padding and dilation, two numbers each."""
        made = self._engine.SparseLayer(shape[0], shape[1] * groups, groups, window, index.numpy())
        return SparseLayer(self.made, made, shape, index, window)


class SparseLayer:
    """One layer. A linear layer is a convolution of 1 × 1 on maps of one pixel."""

    def __init__(self, learning: Any, made: Any, shape: torch.Size, index: Tensor, window: tuple[int, ...]) -> None:
        self.learning, self.made, self.outputs, self._window = learning, made, shape[0], window
        self._places = torch.unravel_index(index, shape)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Its result for float32 maps on the CPU; differentiable once, for the weight where it is not zero."""
        result: Tensor = _Convolution.apply(x, weight, bias, self)  # pyright: ignore[reportAssignmentType]
        return result

    def values(self, weight: Tensor) -> Tensor:
        """Those of the weight that are there."""
        return weight.detach()[self._places]

    def spread(self, values: Tensor, like: Tensor) -> Tensor:
        """The other way: a whole weight, zero elsewhere, in the layout of ``like``."""
        whole = torch.zeros_like(like)
        whole[self._places] = values
        return whole

    def result(self, x: Tensor) -> Tensor:
        """Room for its result."""
        height, width = (_side(size, self._window[i::2], False) for i, size in enumerate(x.shape[2:]))
        return room(len(x), self.outputs, height, width)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: SparseLayer) -> Tensor:
        x, values = images_inside(x), layer.values(weight)
        y = layer.result(x)
        layer.learning.forward(layer.made, _map(x), values.numpy(), _or_nothing(bias), _map(y))
        ctx.save_for_backward(x, values, weight)
        ctx.layer = layer
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x, values, weight), layer = ctx.saved_tensors, ctx.layer
        g, image, whole, bias = images_inside(upstream[0]), None, None, None
        if ctx.needs_input_grad[0]:
            image = room(*x.shape)
            layer.learning.back(layer.made, _map(g), values.numpy(), _map(image))
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            found = torch.empty_like(values)
            bias = torch.empty(layer.outputs) if ctx.needs_input_grad[2] else None
            layer.learning.weights(layer.made, _map(x), _map(g), found.numpy(), _or_nothing(bias))
            whole = layer.spread(found, weight)
        return image, whole, bias, None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float, learning: Learning
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = images_inside(x)
        y, mean, variance = room(*x.shape), torch.empty(x.shape[1]), torch.empty(x.shape[1])
        learning.made.normalise(
            *(_rows(x), _or_nothing(scale), _or_nothing(shift), eps),
            *(_rows(y), mean.numpy(), variance.numpy()),
        )
        ctx.save_for_backward(x, scale, mean, variance)
        ctx.eps, ctx.learning = eps, learning
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, scale, mean, variance = ctx.saved_tensors
        g, image = images_inside(upstream[0]), room(*x.shape)
        scales, shifts = torch.empty_like(mean), torch.empty_like(mean)
        ctx.learning.made.normalise_back(
            *(_rows(x), _rows(g), _or_nothing(scale), ctx.eps, mean.numpy(), variance.numpy()),
            *(_rows(image), scales.numpy(), shifts.numpy()),
        )
        learns = ctx.needs_input_grad
        return image, scales if learns[1] else None, shifts if learns[2] else None, None, None


def batch_norm(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float, learning: Learning
) -> tuple[Tensor, Tensor, Tensor]:
    """The result in train mode, and the mean and biased variance of each channel."""
    result: tuple[Tensor, Tensor, Tensor] = _BatchNorm.apply(x, scale, shift, eps, learning)  # pyright: ignore[reportAssignmentType]
    return result


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, ...], sides: tuple[int, int], learning: Learning) -> Tensor:
        x = images_inside(x)
        y = room(x.shape[0], x.shape[1], *sides)
        learning.made.maximum(window, _map(x), _map(y))
        ctx.save_for_backward(x)
        ctx.window, ctx.learning = window, learning
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        image = room(*x.shape)
        ctx.learning.made.maximum_back(ctx.window, _map(x), _map(images_inside(upstream[0])), _map(image))
        return image, None, None, None


def maximum(x: Tensor, window: tuple[int, ...], learning: Learning, *, ceil_mode: bool) -> Tensor:
    """The maximum over windows, as torch's ``max_pool2d``."""
    sides = _side(x.shape[2], window[::2], ceil_mode), _side(x.shape[3], window[1::2], ceil_mode)
    result: Tensor = _Maximum.apply(x, window, sides, learning)  # pyright: ignore[reportAssignmentType]
    return result


def _side(size: int, window: tuple[int, ...], ceil_mode: bool) -> int:
    kernel, stride, padding, dilation = window
    room_left = size + 2 * padding - dilation * (kernel - 1) - 1
    side = (room_left + (stride - 1 if ceil_mode else 0)) // stride + 1
    begins_outside = ceil_mode and (side - 1) * stride >= size + padding
    return side - 1 if begins_outside else side


def room(n: int, c: int, h: int, w: int) -> Tensor:
    """A new tensor (n, c, h, w) whose images are innermost."""
    return torch.empty_strided((n, c, h, w), (1, h * w * n, w * n, n))


def are_images_inside(x: Tensor) -> bool:
    """Whether the images of (n, c, h, w) are innermost in memory."""
    return x.permute(1, 2, 3, 0).is_contiguous()


def images_inside(x: Tensor) -> Tensor:
    """The same numbers with the images innermost; a copy unless they are."""
    return x.detach().permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)


def _map(x: Tensor) -> np.ndarray:
    return x.detach().permute(1, 2, 3, 0).numpy()


def _rows(x: Tensor) -> np.ndarray:
    return x.detach().permute(1, 2, 3, 0).reshape(x.shape[1], -1).numpy()


def _or_nothing(x: Tensor | None) -> np.ndarray:
    return _NOTHING if x is None else x.detach().contiguous().numpy()
