"""Bring images to one square size."""

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

_CHUNK = 4096


def square(images: Shaped[Tensor, "n c h w"], size: int) -> Shaped[Tensor, "n c {size} {size}"]:
    """The central square of every image at `size` × `size`, in the type it came in (uint8 is rounded).

    The mean over pixel blocks where the square's side is a multiple of `size` (32 → 16), else bilinear with
    antialiasing.
    """
    if size < 1:
        raise ValueError(f"image_size={size}: expected the side of the images in pixels, 1 or more")
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = images[:, :, top : top + side, left : left + side]
    if side == size:
        return images.contiguous()
    # In pieces: a data set in float32 is four times the data set.
    return torch.cat([_scaled(piece, size) for piece in images.split(_CHUNK)])


def _scaled(images: Tensor, size: int) -> Tensor:
    side = images.shape[-1]
    x = images.float()
    if side % size == 0:
        x = F.avg_pool2d(x, side // size)
    else:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.round_().to(torch.uint8) if images.dtype == torch.uint8 else x.clamp_(0, 1)
