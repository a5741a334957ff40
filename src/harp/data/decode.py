"""Decode image files to RGB."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from harp.data.augment import Augment
from harp.data.images import Shape
from harp.data.resize import square

_CHUNK = 64
_LYING = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


def open_rgb(path: str, *, draft: bool = False) -> Image.Image:
    """The first frame of the image at `path`, decoded: grey and palette become RGB, transparency is dropped.

    It is turned upright as its EXIF orientation says. A `draft` of a JPEG reads the whole file and computes an eighth of
    the pixels in each direction: enough to know that it is sound.

    Raises ValueError naming the path where the file is no image, or is damaged, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError("its pixels have more than 8 bits a channel; convert it to an 8-bit image")
            if draft:
                image.draft("RGB", (1, 1))
            ImageOps.exif_transpose(image, in_place=True)
            # Straight from a palette with transparency to RGB, Pillow warns.
            return image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error, EOFError, ...
    except Exception as error:
        raise ValueError(f"cannot read the image {path}: {error}") from error


def decode(path: str, image_size: int | None) -> UInt8[Tensor, "3 h w"]:
    """The image at `path`, cut to a square of `image_size` unless that is None."""
    pixels = torch.from_numpy(np.array(open_rgb(path))).permute(2, 0, 1)
    return pixels if image_size is None else square(pixels[None], image_size)[0]


def stored_shape(path: str) -> Shape:
    """Channels (always 3), height and width of the image at `path`, upright, without decoding it."""
    try:
        with Image.open(path) as image:
            lies = image.getexif().get(ExifTags.Base.Orientation, 1) in _LYING
            return (3, image.width, image.height) if lies else (3, image.height, image.width)
    except Exception as error:
        raise ValueError(f"cannot read the image {path}: {error}") from error


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
