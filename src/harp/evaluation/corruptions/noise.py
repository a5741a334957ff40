"""Noise, pixel by pixel."""

import numpy as np
from numpy.random import Generator

GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)
PHOTONS = (500, 250, 100, 75, 50)
IMPULSES = (0.01, 0.02, 0.03, 0.05, 0.07)


def gaussian(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    return x + random.normal(size=x.shape) * GAUSSIAN[level]


def shot(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """Poisson noise of few photons."""
    return random.poisson(x * PHOTONS[level]) / PHOTONS[level]


def impulse(x: np.ndarray, level: int, random: Generator) -> np.ndarray:
    """Salt and pepper, in each channel."""
    draw = random.random(x.shape)
    half = IMPULSES[level] / 2
    return np.where(draw < half, 0.0, np.where(draw > 1 - half, 1.0, x))
