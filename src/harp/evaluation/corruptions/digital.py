"""What happens to images on their way: contrast, distortion, fewer pixels, compression."""

import io

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""Of the side: how strongly pixels are moved, how smoothly, and how far corners are."""
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
JPEG = (80, 65, 58, 50, 40)
"""Quality."""


def contrast(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * CONTRAST[level] + mean


def elastic(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """An affine change from three points that move, and a smooth one pixel by pixel."""
    side = min(x.shape[:2])
    strength, smooth, corners = (value * side for value in ELASTIC[level])
    middle, reach = (np.array(x.shape[:2]) - 1) / 2, side / 3
    before = np.array([[reach, reach], [reach, -reach], [-reach, -reach]])
    after = before + random.uniform(-corners, corners, (3, 2))
    homogeneous = np.column_stack([before, np.ones(3)])
    affine = np.linalg.lstsq(homogeneous, after, rcond=None)[0]
    places = np.moveaxis(np.indices(x.shape[:2]), 0, -1).reshape(-1, 2) - middle
    places = np.column_stack([places, np.ones(len(places))]) @ affine + middle
    moves = [_smooth_field(x.shape[:2], smooth, random) * strength for _ in range(2)]
    rows, columns = (places[:, axis].reshape(x.shape[:2]) + moves[axis] for axis in range(2))
    planes = [
        ndimage.map_coordinates(plane, (rows, columns), order=1, mode="reflect") for plane in np.moveaxis(x, 2, 0)
    ]
    return np.stack(planes, 2)


def _smooth_field(shape: tuple[int, ...], sigma: float, random: Generator) -> np.ndarray:
    return ndimage.gaussian_filter(random.uniform(-1, 1, shape), max(sigma, 1e-3), mode="reflect", truncate=3)


def pixelate(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """Made smaller, each pixel the mean of those it stands for, and as large again."""
    height, width = x.shape[:2]
    small = max(1, round(height * PIXELATE[level])), max(1, round(width * PIXELATE[level]))
    return np.stack([_there_and_back(plane, small, (height, width)) for plane in np.moveaxis(x, 2, 0)], 2)


def _there_and_back(plane: np.ndarray, small: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    less = picture.resize((small[1], small[0]), Image.Resampling.BOX)
    return np.asarray(less.resize((size[1], size[0]), Image.Resampling.NEAREST))


def jpeg(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """In colour where there are three channels, else each channel on its own."""
    pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    if x.shape[2] == 3:
        return _compressed(Image.fromarray(pixels), JPEG[level])
    return np.stack([_compressed(Image.fromarray(plane), JPEG[level]) for plane in np.moveaxis(pixels, 2, 0)], 2)


def _compressed(picture: Image.Image, quality: int) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(file.getvalue()))).astype(np.float32) / 255
