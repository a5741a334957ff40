"""Decode image files to RGB."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from harp.data.augment import Augment
from harp.data.images import Shape
from harp.runtime.pixels import open_image, planes_of, preprocessed, upright_size
from harp.runtime.preprocessing import Preprocessing

_CHUNK = 64


def decode(path: str, image_size: int | None) -> UInt8[Tensor, "3 h w"]:
    """The image at `path`, upright, cut to a square of `image_size` unless that is None."""
    planes = planes_of(open_image(path))
    if image_size is not None:
        planes = preprocessed(planes, Preprocessing((image_size, image_size)))
    return torch.from_numpy(np.array(planes))


def stored_shape(path: str) -> Shape:
    """Channels (always 3), height and width of the image at `path` as `decode` gives it."""
    return 3, *upright_size(path)


def decode_all(
    paths: Sequence[str], shape: Shape, image_size: int | None
) -> tuple[UInt8[Tensor, "n 3 h w"], dict[int, str]]:
    """Decode files, all to `shape`, on every core (Pillow decodes outside the interpreter lock).

    Second, by position, why some cannot be read; their pixels are zero.
    """
    images = torch.zeros((len(paths), *shape), dtype=torch.uint8)
    broken: dict[int, str] = {}

    def fill(start: int) -> None:
        for position, path in enumerate(paths[start : start + _CHUNK], start):
            try:
                image = decode(path, image_size)
            except ValueError as error:
                broken[position] = str(error)
                continue
            if image.shape != shape:
                raise ValueError(
                    f"the images differ in size: {path} has {image.shape[2]} × {image.shape[1]} pixels, others "
                    f"{shape[2]} × {shape[1]}: pass image_size=... (--task.image-size) to bring all to one square"
                )
            images[position] = image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(0, len(paths), _CHUNK)):
            pass
    return images, broken


@dataclass(frozen=True)
class SquareReader:
    """Reads an image as a square of `image_size` pixels, augmented exactly as the same image in memory would be."""

    image_size: int
    augment: Augment

    def __call__(self, path: str, index: int, augment_seed: int | None) -> UInt8[Tensor, "3 h w"]:
        image = decode(path, self.image_size)
        if augment_seed is None:
            return image
        position: Int64[Tensor, " 1"] = torch.tensor([index])
        return self.augment(image[None], position, augment_seed)[0]
