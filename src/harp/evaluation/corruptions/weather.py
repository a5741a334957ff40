"""Weather: snow, frost and fog made of noise, and brightness."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from harp.evaluation.corruptions.blur import along, scale_of, zoomed

SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
"""Mean and spread of flakes, how large they are, how many fall away, length and spread of their fall, how much is seen."""
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
"""How much is seen of the image, and of the ice."""
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
"""Thickness, and how fast its roughness fades with scale."""
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
GREY = np.array([0.299, 0.587, 0.114])


def snow(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    mean, spread, size, least, length, width, seen = SNOW[level]
    flakes = random.normal(mean, spread, (*x.shape[:2], 1))
    flakes = zoomed(flakes, size)
    flakes = np.where(flakes < least, 0.0, flakes).clip(0, 1)
    angle = random.uniform(np.pi / 4, 3 * np.pi / 4)
    flakes = along(flakes, angle, length * scale_of(x), width * scale_of(x))
    white = np.maximum(x, grey(x) * 1.5 + 0.5)
    return seen * x + (1 - seen) * white + flakes + np.rot90(flakes, 2)


def frost(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """Ice is rough noise with sharp ridges, bluish."""
    image, ice = FROST[level]
    ridges = 1 - np.abs(2 * plasma(x.shape[:2], 1.7, random) - 1)
    tint = np.array([0.85, 0.95, 1.0])[: x.shape[2]] if x.shape[2] == 3 else 1.0
    return image * x + ice * ridges[:, :, None] ** 2 * tint


def fog(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    thick, fade = FOG[level]
    highest = x.max()
    return (x + thick * plasma(x.shape[:2], fade, random)[:, :, None]) * highest / (highest + thick)


def brightness(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """More of the value of HSV: every pixel grows until its largest channel is at 1."""
    value = x.max(2, keepdims=True)
    brighter = np.clip(value + BRIGHTNESS[level], 0, 1)
    return np.where(value > 0, x * brighter / np.maximum(value, 1e-6), brighter)


def plasma(shape: tuple[int, ...], fade: float, random: Generator) -> np.ndarray:
    """Noise at every scale, each half as wide and fainter by ``fade``, brought to [0, 1]."""
    total, weight, cells = np.zeros(shape), 1.0, 2
    while cells < 2 * max(shape):
        coarse = random.random((cells, cells))
        places = np.meshgrid(*(np.linspace(0, cells - 1, n) for n in shape), indexing="ij")
        total += weight * ndimage.map_coordinates(coarse, places, order=1)
        weight, cells = weight / fade, cells * 2
    return (total - total.min()) / max(total.max() - total.min(), 1e-9)


def grey(x: np.ndarray) -> np.ndarray:
    return (x @ GREY)[:, :, None] if x.shape[2] == 3 else x.mean(2, keepdims=True)
