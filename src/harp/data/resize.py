"""Bring images to one square size."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Shaped
from torch import Tensor

from harp.runtime.pixels import preprocessed
from harp.runtime.preprocessing import Preprocessing

_CHUNK = 4096


def square(images: Shaped[Tensor, "n c h w"], size: int) -> Shaped[Tensor, "n c {size} {size}"]:
    """The central square of every image at `size` × `size`, in the type it came in.

    The mean over pixel blocks where the square's side is a multiple of `size` (32 → 16), else bilinear. uint8 is rounded,
    exactly as `harp.runtime` prepares the same image from a file.
    """
    if size < 1:
        raise ValueError(f"image_size={size}: expected the side of the images in pixels, 1 or more")
    if images.dtype == torch.uint8:
        planes = preprocessed(images.flatten(0, 1).numpy(), Preprocessing((size, size)))
        return torch.from_numpy(np.ascontiguousarray(planes)).view(*images.shape[:2], size, size)
    return torch.cat([_scaled(_central(piece), size) for piece in images.split(_CHUNK)])


def _central(images: Float32[Tensor, "n c h w"]) -> Tensor:
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]


def _scaled(images: Tensor, size: int) -> Tensor:
    side = images.shape[-1]
    if side % size == 0:
        return F.avg_pool2d(images, side // size).clamp_(0, 1)
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)
