"""Normalisation as the model's first layer, so that attacks and budgets live on images in [0, 1]."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

MeanStd = tuple[Sequence[float], Sequence[float]]


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
