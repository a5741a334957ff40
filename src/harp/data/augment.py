"""Random crops and flips of whole batches, drawn from a hash of (seed, image index) instead of a generator."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int64, Shaped
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


@dataclass(frozen=True)
class Augment:
    """Crop a random window out of the zero-padded image, then mirror it with probability 1/2.

    The draw of an image depends on `(seed, index)` alone: not on the batch it is in, nor on the process, nor on any
    random state. A stopped epoch therefore goes on anywhere with the images it would have had.
    """

    pad: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad={self.pad}: the padding of a random crop is 0 (no crop) or more pixels")

    def __call__(
        self, images: Shaped[Tensor, "n c h w"], index: Int64[Tensor, " n"], seed: int
    ) -> Shaped[Tensor, "n c h w"]:
        if not self.pad and not self.flip:
            return images
        n, channels, height, width = images.shape
        draw = hash_index(index, seed)
        top, left = (_below(draw >> shift, 2 * self.pad + 1) for shift in (0, 20))
        rows = top[:, None] + torch.arange(height)
        columns = left[:, None] + torch.arange(width)
        if self.flip:
            mirrored = ((draw >> 40) & 1).bool()
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        width_padded = width + 2 * self.pad
        sources = (rows[:, :, None] * width_padded + columns[:, None, :]).view(n, 1, -1).expand(-1, channels, -1)
        return F.pad(images, (self.pad,) * 4).flatten(2).gather(2, sources).view(images.shape)


def hash_index(index: Int64[Tensor, " n"], seed: int) -> Int64[Tensor, " n"]:
    """64 random bits for every (seed, index): two rounds of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    start = _splitmix(torch.tensor([_signed(seed)]))
    return _splitmix(start + index * _signed(_GOLDEN))


def _splitmix(z: Tensor) -> Tensor:
    z = z + _signed(_GOLDEN)
    z = (z ^ _shift(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shift(z, 27)) * _signed(_MIX_2)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's own `>>` drags the sign along."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the lowest 64 bits of `value`."""
    return (value + 2**63) % 2**64 - 2**63


def _below(bits: Tensor, bound: int) -> Tensor:
    """An integer in [0, bound) from the lowest 20 bits; the bias is under bound / 2^20."""
    return (bits & 0xFFFFF) % bound
