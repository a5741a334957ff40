"""Image files as the pixels a network sees. The one module of the runtime that needs Pillow; training reads with it too.

Everything here is done on 8-bit integers, in numpy or by Pillow's own 8-bit filters, so that equal files give equal bits.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from harp.runtime.preprocessing import Mode, Preprocessing, Resample

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation: what makes the image upright."""
_SIDEWAYS = (5, 6, 7, 8)
_CHUNK = 4096


def read_pixels(path: Path | str, how: Preprocessing) -> np.ndarray:
    """The image at ``path`` as uint8 (channels, height, width).

    Raises ValueError naming the path where the file is no image, or is damaged, or has more than 8 bits per channel.
    """
    return preprocessed(planes_of(open_image(path, how.mode)), how)


def open_image(path: Path | str, mode: Mode = "RGB", *, draft: bool = False) -> Image.Image:
    """The first frame of the image at ``path``, decoded and upright: palettes become colours, transparency is dropped.

    A ``draft`` of a JPEG reads the whole file and computes an eighth of the pixels in each direction: enough to know
    that it is sound.

    Raises ValueError as :func:`read_pixels` does.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise ValueError("its pixels have more than 8 bits a channel; convert it to an 8-bit image")
            if draft:
                image.draft("RGB", (1, 1))
            image.load()  # a TIFF is turned by Pillow here, and says so by losing its orientation
            # Straight from a palette with transparency to RGB, Pillow warns.
            rgb = image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")
            turn = _TURNS.get(_orientation(image))
        return _in_mode(rgb if turn is None else rgb.transpose(turn), mode)
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error, EOFError, ...
    except Exception as error:
        raise ValueError(f"cannot read the image {path}: {error}") from error


def upright_size(path: Path | str) -> tuple[int, int]:
    """Height and width of the image that :func:`open_image` gives, mostly without decoding it."""
    try:
        with Image.open(path) as image:
            if image.format == "TIFF":
                image.load()
            height, width = image.height, image.width
            return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)
    except Exception as error:
        raise ValueError(f"cannot read the image {path}: {error}") from error


def planes_of(image: Image.Image) -> np.ndarray:
    """uint8 (channels, height, width)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def preprocessed(planes: np.ndarray, how: Preprocessing) -> np.ndarray:
    """Planes of uint8 (n, h, w), of one image or of many, at the size that is wanted."""
    height, width = planes.shape[1:]
    if how.shorter_side is None:
        part = _largest_part(height, width, how.size)
        top, left = (height - part[0]) // 2, (width - part[1]) // 2
        return _scaled(planes[:, top : top + part[0], left : left + part[1]], how.size, how.resample)
    longer = how.shorter_side * max(height, width) // min(height, width)
    sides = (how.shorter_side, longer) if height <= width else (longer, how.shorter_side)
    # Halves to even, as torchvision's CenterCrop has it.
    top, left = (round((side - wanted) / 2) for side, wanted in zip(sides, how.size, strict=True))
    return _scaled(planes, sides, how.resample)[:, top : top + how.size[0], left : left + how.size[1]]


def _scaled(planes: np.ndarray, size: tuple[int, int], resample: Resample) -> np.ndarray:
    height, width = planes.shape[1:]
    if (height, width) == size:
        return planes
    factor = height // size[0]
    if resample == "mean-or-bilinear" and (height, width) == (size[0] * factor, size[1] * factor):
        return _block_means(planes, size, factor)
    return _bilinear(planes, size)


def _in_mode(rgb: Image.Image, mode: Mode) -> Image.Image:
    return rgb if mode == "RGB" else rgb.convert(mode)


def _orientation(image: Image.Image) -> int:
    """1 (upright) also where the EXIF data are damaged: the pixels may be sound all the same."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as for damaged images
        return 1


def _largest_part(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) that has the proportions of ``size``."""
    if height * size[1] <= width * size[0]:
        return height, max(1, height * size[1] // size[0])
    return max(1, width * size[0] // size[1]), width


def _block_means(planes: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """Rounded to the nearest, ties to even."""
    means = np.empty((len(planes), *size), np.uint8)
    for start in range(0, len(planes), _CHUNK):
        blocks = planes[start : start + _CHUNK].reshape(-1, size[0], factor, size[1], factor)
        means[start : start + _CHUNK] = np.rint(blocks.sum((2, 4), dtype=np.int64) / factor**2)
    return means


def _bilinear(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    wanted, bilinear = (size[1], size[0]), Image.Resampling.BILINEAR
    images = (Image.fromarray(np.ascontiguousarray(plane)) for plane in planes)
    resized = [np.asarray(image.resize(wanted, bilinear)) for image in images]
    return np.stack(resized) if resized else np.empty((0, *size), np.uint8)
