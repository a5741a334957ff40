"""RandAugment, random erasing and CutMix: what is done to a batch, by draws from torch's generator.

The loop seeds it from (seed, stage, epoch, step, rank), so a resumed stage has the same draws.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harp.training.targets import Targets

_AREA, _ASPECT = (0.02, 0.33), (0.3, 1 / 0.3)
"""Of an erased rectangle, as in the paper: its share of the image, and height over width."""


@dataclass(frozen=True)
class Mixing:
    """``erasing`` is the share of images of which a part is erased, ``cutmix`` that of batches whose images are mixed.

    ``magnitude`` is that of RandAugment, 0 for none.
    """

    erasing: float = 0.0
    cutmix: float = 0.0
    magnitude: int = 0

    def __call__(self, x: Tensor, y: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        if self.magnitude > 0:
            x = rand_augment(x, self.magnitude)
        if self.erasing > 0:
            x = erase(x, self.erasing)
        if self.cutmix > 0 and float(torch.rand(())) < self.cutmix:
            return cutmix(x, targets.as_probabilities(y))
        return x, y


def rand_augment(x: Float[Tensor, "n c h w"], magnitude: int) -> Float[Tensor, "n c h w"]:
    """RandAugment (Cubuk et al. 2020) as torchvision has it: two operations on each image, of this magnitude of 30.

    They compute with bytes, as on image files.
    """
    from torchvision.transforms import v2

    augment = v2.RandAugment(num_ops=2, magnitude=magnitude)
    images = (x * 255).round().to(torch.uint8)
    return torch.stack([augment(image) for image in images]).to(x.dtype) / 255


def erase(x: Float[Tensor, "n c h w"], share: float) -> Float[Tensor, "n c h w"]:
    """Random erasing (Zhong et al. 2020): in this share of the images a rectangle becomes uniform noise."""
    x = x.clone()
    for image in x:
        chance, area, aspect, across, down = torch.rand(5).tolist()
        if chance >= share:
            continue
        height, width = image.shape[1:]
        size = (_AREA[0] + (_AREA[1] - _AREA[0]) * area) * height * width
        ratio = math.exp(math.log(_ASPECT[0]) + (math.log(_ASPECT[1]) - math.log(_ASPECT[0])) * aspect)
        tall, wide = min(height, round(math.sqrt(size * ratio))), min(width, round(math.sqrt(size / ratio)))
        top, left = int(down * (height - tall + 1)), int(across * (width - wide + 1))
        part = image[:, top : top + tall, left : left + wide]
        part.copy_(torch.rand(part.shape))
    return x


def cutmix(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n classes"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n classes"]]:
    """CutMix (Yun et al. 2019), its λ uniform: one box of every image is that of another, and labels mix by area."""
    height, width = x.shape[2:]
    lam, down, across = torch.rand(3).tolist()
    partner = torch.randperm(len(x)).to(x.device)
    return paste(x, y, partner, box(lam, down, across, height, width))


def box(lam: float, down: float, across: float, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a box of about 1 − λ of the image around a centre, clipped to it."""
    tall, wide = int(height * math.sqrt(1 - lam)), int(width * math.sqrt(1 - lam))
    middle, centre = int(down * height), int(across * width)
    top, bottom = max(0, middle - tall // 2), min(height, middle - tall // 2 + tall)
    left, right = max(0, centre - wide // 2), min(width, centre - wide // 2 + wide)
    return top, bottom, left, right


def paste(x: Tensor, y: Tensor, partner: Tensor, where: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """The box from each image's partner, and labels in proportion to the pixels."""
    top, bottom, left, right = where
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    own = 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
    return mixed, own * y + (1 - own) * y[partner]
