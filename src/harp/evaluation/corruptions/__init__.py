"""Common corruptions: the fifteen of CIFAR-10-C and ImageNet-C, made here for images of any size, in five severities.

Strengths are those of Hendrycks and Dietterich 2019 for images of 32 pixels; whatever is a length grows with the image. Frost and snow
are made of noise, not of photographs. So numbers found with them compare networks with each other, and not with tables of CIFAR-10-C.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from harp.evaluation.corruptions import blur, digital, noise, weather

Picture = Float32[np.ndarray, "height width channels"]

CORRUPTIONS: dict[str, Callable[[Picture, int, np.random.Generator], np.ndarray]] = {
    "gaussian noise": noise.gaussian,
    "shot noise": noise.shot,
    "impulse noise": noise.impulse,
    "defocus blur": blur.defocus,
    "glass blur": blur.glass,
    "motion blur": blur.motion,
    "zoom blur": blur.zoom,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic": digital.elastic,
    "pixelate": digital.pixelate,
    "jpeg": digital.jpeg,
}
SEVERITIES = (1, 2, 3, 4, 5)


def corrupted(
    images: Float32[np.ndarray, "batch channels height width"],
    numbers: list[int],
    name: str,
    severity: int,
    seed: int = 0,
) -> Float32[np.ndarray, "batch channels height width"]:
    """Images in [0, 1], each corrupted; ``numbers`` are what their random numbers follow from, together with name and seed.

    The same image under the same number is corrupted alike, whatever is beside it.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"name={name!r} is not a corruption; choose one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity={severity} must be one of {SEVERITIES}")
    change = CORRUPTIONS[name]
    made = [
        change(image.transpose(1, 2, 0), severity - 1, _random(name, number, seed))
        for image, number in zip(images, numbers, strict=True)
    ]
    return np.clip(np.stack(made).transpose(0, 3, 1, 2), 0.0, 1.0).astype(np.float32)


def _random(name: str, number: int, seed: int) -> np.random.Generator:
    """One stream for all severities of a corruption, so that a severer one is more of the same."""
    digest = hashlib.sha256(f"{name} {number} {seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))
