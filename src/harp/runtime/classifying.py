"""Image files in, classes out: what the card of a network says of its images, applied."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harp.runtime.graph import Shape
from harp.runtime.preprocessing import EXTENSIONS, Preprocessing, read_preprocessing


@dataclass(frozen=True)
class Prediction:
    """The class of one image. ``name`` is None where the file of the network carries no names."""

    path: str
    label: int
    name: str | None
    logits: np.ndarray


def class_names(card: dict[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes in the order of the logits; None where the card has none."""
    names = card.get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def preprocessing_in(card: dict[str, Any]) -> Preprocessing | None:
    """What the card says of how its images were made; None where it says nothing.

    Raises ValueError where it says something that this harp cannot do exactly.
    """
    described = card.get("preprocessing")
    return None if described is None else read_preprocessing(described)


def classify(
    run: Callable[[np.ndarray], np.ndarray],
    paths: Path | str | Iterable[Path | str],
    how: Preprocessing,
    names: tuple[str, ...] | None,
    *,
    threads: int,
    batch: int,
) -> list[Prediction]:
    """Read images on ``threads`` threads, ``batch`` at a time, and run the network on them."""
    if batch < 1:
        raise ValueError(f"batch={batch}: expected 1 or more images at once")
    read = _reader(how)
    chosen = image_files(paths)
    found: list[Prediction] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(chosen), batch):
            some = chosen[start : start + batch]
            logits = run(np.stack(list(pool.map(read, some))))
            _check_logits(logits.shape, names)
            for path, row in zip(some, logits, strict=True):
                label = int(row.argmax())
                found.append(Prediction(path, label, None if names is None else names[label], row))
    return found


def image_files(paths: Path | str | Iterable[Path | str]) -> list[str]:
    """The files as they are named, and in the place of every directory the images in it, deeper ones too, sorted.

    Hidden files are left out. Raises ValueError naming a directory without images.
    """
    found: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        if not os.path.isdir(path):
            found.append(os.fspath(path))
            continue
        inside = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
        images = sorted(image for image in inside if _is_image(os.path.basename(image)))
        if not images:
            raise ValueError(f"{path} holds no images: expected files ending in {', '.join(EXTENSIONS)}")
        found += images
    return found


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def check_preprocessing(how: Preprocessing | None, image: Shape) -> Preprocessing:
    """Raise ValueError unless there is a description, and of images that a network for ``image`` takes."""
    if how is None:
        raise ValueError(
            "preprocessing=None, and the file does not say how images become the pixels that its network was trained on: "
            f"export it again, or say it, e.g. preprocessing=harp.runtime.Preprocessing(size={image[1:]})"
        )
    if how.channels != image[0]:
        raise ValueError(f"preprocessing.mode={how.mode!r}: the network takes images of {image[0]} channels")
    return how


def _reader(how: Preprocessing) -> Callable[[str], np.ndarray]:
    """(path) → uint8 (h, w, c). Raises ModuleNotFoundError saying how to get Pillow."""
    try:
        from harp.runtime.pixels import read_pixels  # here, since running a network on arrays needs no Pillow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading image files needs Pillow: pip install pillow", name=error.name) from error
    return partial(_channels_last, read_pixels, how)


def _channels_last(read: Callable[[str, Preprocessing], np.ndarray], how: Preprocessing, path: str) -> np.ndarray:
    return read(path, how).transpose(1, 2, 0)


def _check_logits(shape: tuple[int, ...], names: tuple[str, ...] | None) -> None:
    if len(shape) != 2:
        raise ValueError(f"the network gives {shape[1:]} for an image: to classify takes one number per class")
    if names is not None and len(names) != shape[1]:
        raise ValueError(f"the file names {len(names)} classes and its network has {shape[1]}: export it again")
