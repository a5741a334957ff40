"""A pruned network that learns, layer by layer on the engine: forward, back, and gradients of the weights that are left."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harp.pruning import Mask
from harp.pruning.mask import parametrizations
from harp.runtime.learning import Learning, SparseLayer, are_images_inside, batch_norm, maximum

DENSEST = 0.25
"""Share of a layer's weights up to which it is computed here. Above, torch's dense products are faster."""
_FEW_INPUTS = 4
"""Channels that an output reads at most, for a layer of any density: torch is slow there, too."""


class Learner:
    """The layers of a model whose weights are mostly zero under frozen masks, and what stands between them.

    ``with learner():`` computes them on the engine in every forward pass inside, and in its way back, which may come
    later. Masks stay as they are from now on; weights may change. The gradient of a weight is zero where its mask is.
    Batch norms and maximum pooling follow the engine's order of numbers; all else is torch's, as it was. Layers of
    other types than float32 on the CPU are. Raises ValueError where no layer is left.
    """

    def __init__(self, model: nn.Module, *, threads: int) -> None:
        learning = Learning(threads)
        found = {name: _sparse(module, learning) for name, module in model.named_modules()}
        self.layers = tuple(name for name, forward in found.items() if forward is not None)
        if not self.layers:
            raise ValueError("no convolution or linear layer of the network is sparse under a frozen mask, and float32")
        modules = dict(model.named_modules())
        self._forwards = [(modules[name], forward) for name, forward in found.items() if forward is not None]
        own = [module for module in modules.values() if "forward" not in vars(module)]
        self._forwards += [
            (m, partial(_normalised, m, learning)) for m in own if isinstance(m, nn.BatchNorm2d) and _is_plain(m)
        ]
        self._forwards += [(m, partial(_pooled, m, learning)) for m in own if type(m) is nn.MaxPool2d]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        try:
            for module, forward in self._forwards:
                vars(module)["forward"] = forward
            yield
        finally:
            for module, _ in self._forwards:
                vars(module).pop("forward", None)


def _sparse(module: nn.Module, learning: Learning) -> Callable[[Tensor], Tensor] | None:
    """The forward pass of a layer on the engine, or None where torch's stays."""
    kind = next((kind for kind in (nn.Conv2d, nn.Linear) if isinstance(module, kind)), None)
    if kind is None or type(module).forward is not kind.forward or "forward" in vars(module):
        return None
    chains = parametrizations(module)
    weight, mask = _weight_of(module, chains)
    if weight is None or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    index = torch.arange(weight.numel()) if mask is None else mask.flatten().nonzero().flatten()
    inputs = weight.shape[1]
    if not len(index) or (len(index) > DENSEST * weight.numel() and inputs > _FEW_INPUTS):
        return None
    if isinstance(module, nn.Conv2d):
        padding = _padding(module)
        if padding is None:
            return None
        window = (*module.kernel_size, *module.stride, *padding, *module.dilation)
        layer = learning.layer(weight.shape, module.groups, window, index)
        return partial(_convolved, module, layer, weight)
    assert isinstance(module, nn.Linear)
    layer = learning.layer(weight.shape, 1, (1, 1, 1, 1, 0, 0, 1, 1), index)
    return partial(_linear, module, layer, weight)


def _weight_of(module: nn.Module, chains: Mapping[str, nn.ModuleList]) -> tuple[nn.Parameter | None, Tensor | None]:
    """The weight that learns, and the mask on its entries, if there is one; no weight where something else computes it."""
    if not chains:
        return module._parameters["weight"], None
    chain = chains.get("weight")
    part = chain[0] if chain is not None and len(chains) == 1 and len(chain) == 1 else None
    if chain is None or not isinstance(part, Mask):
        return None, None
    weight, mask = chain.original, part.mask
    if not isinstance(weight, nn.Parameter) or mask is None or mask.shape != weight.shape:
        return None, None
    return weight, mask


def _padding(module: nn.Conv2d) -> tuple[int, int] | None:
    """Zeros on each side; None where there are other numbers, or more on one side."""
    if module.padding_mode != "zeros":
        return None
    if not isinstance(module.padding, str):
        return module.padding[0], module.padding[1]
    if module.padding == "valid":
        return 0, 0
    both = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return None if any(each % 2 for each in both) else (both[0] // 2, both[1] // 2)


def _fits(x: Tensor, dims: int) -> bool:
    return x.dim() == dims and x.dtype == torch.float32 and len(x) > 0 and not torch.is_autocast_enabled("cpu")


def _convolved(module: nn.Conv2d, layer: SparseLayer, weight: nn.Parameter, x: Tensor) -> Tensor:
    return layer(x, weight, module.bias) if _fits(x, 4) else nn.Conv2d.forward(module, x)


def _linear(module: nn.Linear, layer: SparseLayer, weight: nn.Parameter, x: Tensor) -> Tensor:
    if not _fits(x, 2):
        return nn.Linear.forward(module, x)
    return layer(x[:, :, None, None], weight, module.bias)[:, :, 0, 0]


def _is_plain(module: nn.BatchNorm2d) -> bool:
    return type(module).forward is _BatchNorm.forward


def _normalised(module: nn.BatchNorm2d, learning: Learning, x: Tensor) -> Tensor:
    count = x.numel() // max(x.shape[1], 1)
    if not (module.training and _fits(x, 4) and are_images_inside(x) and count > 1 and _in_float(module)):
        return _BatchNorm.forward(module, x)
    y, mean, variance = batch_norm(x, module.weight, module.bias, module.eps, learning)
    if module.running_mean is not None and module.running_var is not None and module.num_batches_tracked is not None:
        with torch.no_grad():
            module.num_batches_tracked.add_(1)
            new = 1.0 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
            module.running_mean.mul_(1 - new).add_(mean, alpha=new)
            module.running_var.mul_(1 - new).add_(variance, alpha=new * count / (count - 1))
    return y


def _in_float(module: nn.BatchNorm2d) -> bool:
    return all(p is None or p.dtype == torch.float32 for p in (module.weight, module.bias))


def _pooled(module: nn.MaxPool2d, learning: Learning, x: Tensor) -> Any:
    if module.return_indices or not _fits(x, 4) or not are_images_inside(x):
        return nn.MaxPool2d.forward(module, x)
    parts = (module.kernel_size, module.stride, module.padding, module.dilation)
    window = tuple(side for part in parts for side in _pair(part))
    sizes = [size + 2 * window[4 + i] - window[6 + i] * (window[i] - 1) for i, size in enumerate(x.shape[2:])]
    if min(sizes) < 1 or any(2 * window[4 + i] > window[i] for i in (0, 1)):
        return nn.MaxPool2d.forward(module, x)  # it says what is wrong
    return maximum(x, window, learning, ceil_mode=module.ceil_mode)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
