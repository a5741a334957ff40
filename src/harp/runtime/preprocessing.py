"""How an image file becomes the pixels a network sees, as plain data: what a run records and a file carries."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Mode = Literal["RGB", "L"]
Resample = Literal["mean-or-bilinear", "bilinear"]
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
"""Of the files that are taken for images in a directory, in lower case."""
MODES: dict[int, Mode] = {3: "RGB", 1: "L"}
"""By the number of channels."""


@dataclass(frozen=True)
class Preprocessing:
    """An 8-bit image, turned upright by its EXIF orientation, in these colours, its central part at this size.

    ``harp.runtime.pixels`` applies it, for training and for a deployed network alike.
    """

    size: tuple[int, int]
    """Height and width of the result."""
    mode: Mode = "RGB"
    """Colour, or grey ("L"). Transparency is dropped."""
    shorter_side: int | None = None
    """None: the largest central part with the proportions of ``size`` is scaled to it. A number: the whole image is
    scaled until its shorter side has so many pixels, and the central part of ``size`` is cut out."""
    orientation: Literal["exif"] = "exif"
    resample: Resample = "mean-or-bilinear"
    """Pillow's bilinear filter; with "mean-or-", the mean over blocks of pixels where both sides shrink by the same
    whole factor."""

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(type(side) is int and side >= 1 for side in self.size):
            raise ValueError(f"size={self.size}: expected (height, width) in pixels, each 1 or more")
        shorter = self.shorter_side
        if shorter is not None and (type(shorter) is not int or {*self.size} != {min(*self.size, shorter)}):
            raise ValueError(
                f"shorter_side={shorter!r}: expected None, or at least the side of a square size={self.size}"
            )
        known = {"mode": get_args(Mode), "orientation": ("exif",), "resample": get_args(Resample)}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected {' or '.join(map(repr, choices))}")

    @property
    def channels(self) -> int:
        return next(channels for channels, mode in MODES.items() if mode == self.mode)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "size": list(self.size)}

    def __str__(self) -> str:
        height, width = self.size
        colours = "RGB" if self.mode == "RGB" else "grey"
        part = "the central part" if self.shorter_side is None else f"shorter side to {self.shorter_side}, the centre"
        return f"upright (EXIF), {colours}, {part} at {width} × {height} pixels ({self.resample.replace('-', ' ')})"


def preprocessing_of(shape: tuple[int, int, int]) -> Preprocessing | None:
    """The central part of any image, as a network for images of ``shape`` (channels, height, width) takes it.

    None where images cannot have so many channels.
    """
    channels, height, width = shape
    return Preprocessing((height, width), MODES[channels]) if channels in MODES else None


def read_preprocessing(described: Any) -> Preprocessing:
    """What :meth:`Preprocessing.to_json` wrote. Raises ValueError for anything that this harp cannot apply exactly."""
    names = {field.name for field in fields(Preprocessing)}
    if not isinstance(described, dict) or set(described) != names or not isinstance(described["size"], list):
        raise ValueError(
            f"preprocessing={str(described)[:80]}: expected an object with {', '.join(sorted(names))}; "
            "it was written by another version of harp, or by hand"
        )
    return Preprocessing(**{**described, "size": tuple(described["size"])})
