"""Normalisation as the model's first layer, so that attacks and budgets live on images in [0, 1]."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

MeanStd = tuple[Sequence[float], Sequence[float]]

_log = logging.getLogger(__name__)

_MEANS, _STDS = ("mean", "new_mean", "mu", "means"), ("std", "new_std", "sigma", "stds", "sigmas")
"""What others call the buffers of such a layer."""


class Normalize(nn.Module):
    """(x - mean) / std for every channel. Both travel in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ValueError(f"mean={tuple(mean)}, std={tuple(std)}: expected one value of each for every channel")
        if not min(std) > 0:
            raise ValueError(f"std={tuple(std)}: expected values above 0")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


class Normalized(nn.Module):
    """A network that knows nothing of normalisation, behind a layer that does it."""

    def __init__(self, normalize: Normalize, model: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model

    def forward(self, x: Float[Tensor, "n c h w"]) -> Tensor:
        return self.model(self.normalize(x))


@dataclass(frozen=True)
class Found:
    """Tensors for a model's normalisation, and all names in the checkpoint that say the same."""

    tensors: Mapping[str, Tensor]
    names: frozenset[str]


def find_normalisation(left: Mapping[str, Tensor], model: nn.Module) -> tuple[Found, list[str]]:
    """The normalisation among the tensors of a checkpoint that are no weights of the model, and what is wrong with it.

    A pair of a mean and a std is one, whatever layer it belongs to. Where the model has no layer for it, a pair that
    leaves images as they are is found and forgotten, and any other is a problem: the network would see other images.
    """
    pairs = dict(_pairs(left))
    names = frozenset(name for pair in pairs for name in pair)
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Normalize)]
    values = {(tuple(mean.flatten().tolist()), tuple(std.flatten().tolist())) for mean, std in pairs.values()}
    if len(values) > 1:
        return Found({}, names), [f"several normalisations: {' and '.join(mean for mean, _ in pairs)} differ"]
    if not values:
        return Found({}, names), []
    ((mean, std),) = values
    for name, layer in layers:
        if layer.mean.numel() == len(mean):
            own = (tuple(layer.mean.flatten().tolist()), tuple(layer.std.flatten().tolist()))
            if own != (mean, std):
                _log.warning("the checkpoint's own normalisation is taken: mean %s, std %s", _words(mean), _words(std))
            place = f"{name}." if name else ""
            found = {f"{place}mean": torch.tensor(mean), f"{place}std": torch.tensor(std)}
            return Found({key: t.view(-1, 1, 1).to(layer.mean.dtype) for key, t in found.items()}, names), []
    if set(mean) == {0.0} and set(std) == {1.0}:
        return Found({}, names), []
    advice = f"the network normalises its images: --task.mean {_words(mean)} --task.std {_words(std)}"
    return Found({}, names), [
        *(f"unexpected: {name} {tuple(left[name].shape)}; {advice}" for pair in pairs for name in pair)
    ]


def _pairs(left: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, str], tuple[Tensor, Tensor]]]:
    for name, mean in left.items():
        place, dot, last = name.rpartition(".")
        std = f"{place}{dot}{_STDS[_MEANS.index(last)]}" if last in _MEANS else ""
        # One value per channel, whatever the shape.
        if (
            std in left
            and mean.numel() == left[std].numel() == max(mean.shape, default=1)
            and bool((left[std] > 0).all())
        ):
            yield (name, std), (mean, left[std])


def _words(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
