"""Test images before and after an attack, as a run kept them, and as pictures that live inside the page."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open

MOST_IMAGES = 8  # rows of the grid, whatever the file holds
LARGEST_IMAGE = 2**22  # numbers, 1,024 x 1,024 pixels in colour; beyond it the file is not one of ours
PICTURE_SIDE = 160  # pixels; larger images are shrunk, so that the page stays light
INTEGERS = ("y", "clean_prediction", "adversarial_prediction")


@dataclass(frozen=True, eq=False)
class Examples:
    """The first test images, what one attack made of them, and what the network said before and after."""

    attack: str
    eps: str
    x: Float32[np.ndarray, "k c h w"]
    x_adv: Float32[np.ndarray, "k c h w"]
    y: Int64[np.ndarray, " k"]
    clean_prediction: Int64[np.ndarray, " k"]
    adversarial_prediction: Int64[np.ndarray, " k"]


def read_examples(folder: Path, classes: int) -> Examples | None:
    """Read examples.safetensors, or else the first examples-*.safetensors (AutoAttack's before any other's); None without.

    Raises ValueError naming the file when it is truncated, its sizes disagree, pixels leave [0, 1] or a label has no class.
    """
    paths = [folder / "examples.safetensors", *sorted(folder.glob("examples-*.safetensors"), key=_autoattack_first)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            return _checked(file, path, classes)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, truncated or damaged ({error})") from error


def _autoattack_first(path: Path) -> tuple[bool, str]:
    return "autoattack" not in path.name, path.name


def _checked(file: safe_open, path: Path, classes: int) -> Examples:
    """Sizes and types are checked on the header, before anything is allocated; then the values."""
    missing = {"x", "x_adv", *INTEGERS} - set(file.keys())
    if missing:
        raise ValueError(f"{path}: has no tensor {', '.join(sorted(missing))}")
    shape = tuple(file.get_slice("x").get_shape())
    dtype = file.get_slice("x").get_dtype()
    if len(shape) != 4 or 0 in shape or dtype != "F32" or math.prod(shape[1:]) > LARGEST_IMAGE:
        raise ValueError(
            f"{path}: x is {dtype} {shape}, expected F32 (k, channels, height, width), at most {LARGEST_IMAGE} an image"
        )
    expected = {"x_adv": ("F32", shape), **dict.fromkeys(INTEGERS, ("I64", shape[:1]))}
    for name, (dtype, size) in expected.items():
        part = file.get_slice(name)
        if (part.get_dtype(), tuple(part.get_shape())) != (dtype, size):
            raise ValueError(f"{path}: {name} is {part.get_dtype()} {tuple(part.get_shape())}, expected {dtype} {size}")
    k = min(MOST_IMAGES, shape[0])
    tensors = {name: np.asarray(file.get_slice(name)[:k]) for name in ("x", "x_adv", *INTEGERS)}
    for name in ("x", "x_adv"):
        if not ((tensors[name] >= 0) & (tensors[name] <= 1)).all():  # also false for NaN
            raise ValueError(f"{path}: {name} has pixels outside [0, 1]")
    for name in INTEGERS:
        if not ((tensors[name] >= 0) & (tensors[name] < classes)).all():
            raise ValueError(f"{path}: {name} has labels outside the {classes} classes of the card")
    metadata = file.metadata() or {}
    return Examples(attack=metadata.get("attack", ""), eps=metadata.get("eps", ""), **tensors)


def amplification(examples: list[Examples]) -> int:
    """The largest whole factor at which every perturbation still fits around middle grey; 1 when nothing changed."""
    largest = max(float(np.abs(each.x_adv - each.x).max()) for each in examples)
    return max(1, int(0.5 / largest)) if largest > 0 else 1


def image_uri(image: Float32[np.ndarray, "c h w"]) -> str:
    return _png_uri(np.rint(image * 255).astype(np.uint8), Image.Resampling.BOX)


def change_uri(x: Float32[np.ndarray, "c h w"], x_adv: Float32[np.ndarray, "c h w"], factor: int) -> str:
    """The perturbation times `factor` around middle grey. Shrunk by picking pixels: averaging would cancel its signs."""
    shown = np.clip(0.5 + factor * (x_adv - x), 0, 1)
    return _png_uri(np.rint(shown * 255).astype(np.uint8), Image.Resampling.NEAREST)


def _png_uri(pixels: UInt8[np.ndarray, "c h w"], resampling: Image.Resampling) -> str:
    """A PNG as a data URI: three channels in colour, one in grey; of any other number the first, in grey."""
    colour = pixels.shape[0] == 3
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if colour else pixels[0])
    if max(image.size) > PICTURE_SIDE:
        scale = PICTURE_SIDE / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), resampling)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
