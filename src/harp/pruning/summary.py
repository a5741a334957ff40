"""What of a network is kept, layer by layer, as a table."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.budget import aligned, budget_of, weight_layers
from harp.pruning.channels.following.watching import evaluating
from harp.pruning.mask import masks
from harp.pruning.prunable import other_parameters, prunable_shapes
from harp.pruning.using import as_example


@dataclass(frozen=True)
class LayerSummary:
    """One weight. ``macs`` are the multiply-accumulates of its kept entries for one image; None where none were counted."""

    name: str
    shape: tuple[int, ...]
    kept: int
    total: int
    macs: int | None

    @property
    def share(self) -> float:
        return self.kept / self.total


@dataclass(frozen=True)
class Summary:
    """``print`` it for a table."""

    layers: tuple[LayerSummary, ...]
    uncounted: tuple[tuple[str, int], ...] = ()
    """Other parameters of two dimensions or more, and how large they are."""

    @property
    def kept(self) -> int:
        return sum(layer.kept for layer in self.layers)

    @property
    def total(self) -> int:
        return sum(layer.total for layer in self.layers)

    @property
    def share(self) -> float:
        return self.kept / self.total if self.total else 1.0

    @property
    def macs(self) -> int | None:
        """Of all layers that were counted; None without an example."""
        counted = [layer.macs for layer in self.layers if layer.macs is not None]
        return sum(counted) if counted else None

    def __str__(self) -> str:
        rows = [(x.name, " x ".join(map(str, x.shape)), *_numbers(x.kept, x.share, x.macs)) for x in self.layers]
        last = ("all layers", "", *_numbers(self.kept, self.share, self.macs))
        others = [(name, "not counted", f"{size:,}", "", "") for name, size in self.uncounted]
        return aligned([("layer", "shape", "kept", "share", "MACs"), *rows, last, *others])


def summary(model: nn.Module, example: Tensor | None = None) -> Summary:
    """What is kept of each convolution, linear, bilinear, recurrent and attention-projection weight; with a batch of images, its MACs, too.

    Under masks, what they keep now. In a plain network, the entries that are not zero. MACs are counted for convolutions
    and linear layers that the forward pass calls.
    """
    found = masks(model)
    shapes = prunable_shapes(model, found)
    others = tuple((name, p.numel()) for name, p in other_parameters(model).items())
    if found:
        budget, counts = budget_of(model), {name: mask.count for name, mask in found.items()}
        layers = weight_layers(model, counts) if budget is None else budget.layers(model, counts)
        kept = {name: layer["kept"] for name, layer in layers.items()}
    else:
        kept = {name: int(model.get_parameter(name).count_nonzero()) for name in shapes}
    uses = {} if example is None else _uses(model, as_example(model, example))
    return Summary(
        tuple(
            LayerSummary(
                name, tuple(shape), kept[name], shape.numel(), kept[name] * uses[name] if name in uses else None
            )
            for name, shape in shapes.items()
        ),
        others,
    )


def _uses(model: nn.Module, example: Tensor) -> dict[str, int]:
    """How often each entry of a weight is multiplied for one image."""
    found: dict[str, int] = {}
    with _watched(model, found), evaluating(model), torch.no_grad():
        model(example[:1])
    return found


@contextmanager
def _watched(model: nn.Module, found: dict[str, int]) -> Iterator[None]:
    def counting(name: str, channels_of: int) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            # A transposed convolution multiplies a weight once per position of its input, all others of their output.
            where = inputs[0] if isinstance(module, nn.modules.conv._ConvTransposeNd) else output
            found[name] = found.get(name, 0) + where.numel() // channels_of

        return count

    handles = []
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, nn.modules.conv._ConvNd):
            transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
            channels = module.in_channels if transposed else module.out_channels
            handles.append(module.register_forward_hook(counting(name, channels)))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(counting(name, module.out_features)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _numbers(kept: int, share: float, macs: int | None) -> tuple[str, str, str]:
    return f"{kept:,}", f"{share:.2%}", "–" if macs is None else f"{macs:,}"
