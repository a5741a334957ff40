"""Blur: out of focus, through frosted glass, of a moving camera, of one that zooms."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage, signal

SIDE = 32
"""Of the images that lengths are given for, in pixels."""
DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
"""Radius of the disk, and how far its edge is softened."""
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
"""Softening, the farthest that a pixel moves, and how often."""
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
"""Half the length of the path, and the spread along it."""
ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)
ZOOM_STEP = 0.01


def scale_of(x: np.ndarray) -> float:
    return min(x.shape[:2]) / SIDE


def defocus(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    radius, soft = (value * scale_of(x) for value in DEFOCUS[level])
    reach = int(np.ceil(radius + 3 * soft))
    across = np.arange(-reach, reach + 1)
    disk = (np.hypot(*np.meshgrid(across, across)) <= max(radius, 0.5)).astype(np.float64)
    kernel = ndimage.gaussian_filter(disk, soft)
    return ndimage.convolve(x.astype(np.float64), (kernel / kernel.sum())[:, :, None], mode="reflect")


def glass(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    soft, far, often = GLASS[level]
    soft, far = soft * scale_of(x), max(1, round(far * scale_of(x)))
    seen = softened(x, soft)
    rows, columns = np.indices(x.shape[:2])
    for _ in range(often):
        down, right = random.integers(-far, far + 1, (2, *x.shape[:2]))
        seen = seen[np.clip(rows + down, 0, x.shape[0] - 1), np.clip(columns + right, 0, x.shape[1] - 1)]
    return softened(seen, soft)


def motion(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    length, spread = (value * scale_of(x) for value in MOTION[level])
    return along(x, random.uniform(-np.pi / 4, np.pi / 4), length, spread)


def along(x: np.ndarray, angle: float, length: float, spread: float) -> np.ndarray:
    """Shifted along a line and added up, less from farther away."""
    steps = np.arange(int(np.ceil(length)) + 1)
    weights = np.exp(-((steps / max(spread, 1e-3)) ** 2) / 2)
    reach = int(np.ceil(length)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        row, column = reach + step * np.sin(angle), reach + step * np.cos(angle)
        top, left = int(np.floor(row)), int(np.floor(column))
        low, right = row - top, column - left
        corner = np.outer([1 - low, low], [1 - right, right])
        kernel[top : top + 2, left : left + 2] += weight * corner[: kernel.shape[0] - top, : kernel.shape[1] - left]
    padded = np.pad(x.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    return signal.fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1))


def zoom(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    factors = np.arange(1.0, ZOOM[level], ZOOM_STEP)
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image as large as the whole."""
    places = np.meshgrid(*(_around_the_middle(length, factor) for length in x.shape[:2]), indexing="ij")
    planes = [ndimage.map_coordinates(plane, places, order=1, mode="nearest") for plane in np.moveaxis(x, 2, 0)]
    return np.stack(planes, 2)


def _around_the_middle(length: int, factor: float) -> np.ndarray:
    middle = (length - 1) / 2
    return middle + (np.arange(length) - middle) / factor


def softened(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x.astype(np.float64), (sigma, sigma, 0))
