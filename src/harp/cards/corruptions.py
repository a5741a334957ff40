"""How a network fares on corrupted images: counts by corruption and severity, and by image, so that networks can be compared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harp.cards.fields import Fields

_ENTRIES = ("images", "counts", "by_image", "accuracy", "low", "high", "seed", "elapsed_s", "inputs")
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Corruptions:
    """The same images under every corruption, in every severity."""

    images: int
    counts: Mapping[str, tuple[int, ...]]
    """By corruption, how many images are right in each severity, from the mildest."""
    by_image: tuple[int, ...]
    """In how many of all versions each image is right, in `evaluation_order`."""
    seed: int
    elapsed_s: float
    inputs: str = ""
    """Digest of the data set that was read and of the user's own code. Empty when unknown."""

    def __post_init__(self) -> None:
        if len(self.by_image) != self.images or self.images < 1:
            raise ValueError(f"by_image has {len(self.by_image)} entries, expected one per image, {self.images}")
        if not all(0 <= right <= self.images for row in self.counts.values() for right in row):
            raise ValueError(f"counts must lie in [0, {self.images}], the number of images")
        if not all(0 <= right <= self.versions for right in self.by_image):
            raise ValueError(f"by_image must lie in [0, {self.versions}], the number of versions of an image")
        if sum(map(sum, self.counts.values())) != sum(self.by_image):
            raise ValueError("counts and by_image must hold the same number of right answers")

    def is_of(self, images: int, seed: int) -> bool:
        """Whether it is of so many images, with this seed."""
        return (self.images, self.seed) == (images, seed)

    @property
    def versions(self) -> int:
        """Of each image."""
        return sum(map(len, self.counts.values()))

    @property
    def accuracy(self) -> float:
        """The mean over corruptions and severities."""
        return sum(self.by_image) / (self.images * self.versions)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % for the draw of images: normal, from what each image contributes, because its versions are alike."""
        shares = [right / self.versions for right in self.by_image]
        spread = math.sqrt(sum((share - self.accuracy) ** 2 for share in shares) / max(self.images - 1, 1))
        half = 1.959964 * spread / math.sqrt(self.images)
        return max(0.0, self.accuracy - half), min(1.0, self.accuracy + half)

    def of(self, name: str) -> float:
        """The accuracy under one corruption, over its severities."""
        return sum(self.counts[name]) / (self.images * len(self.counts[name]))

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "images": self.images,
            "counts": {name: list(row) for name, row in self.counts.items()},
            "by_image": list(self.by_image),
            "accuracy": self.accuracy,
            "low": low,
            "high": high,
            "seed": self.seed,
            "elapsed_s": self.elapsed_s,
            "inputs": self.inputs,
        }

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.accuracy * 100:.1f} % [{low * 100:.1f}, {high * 100:.1f}] of {self.images} under {len(self.counts)} "
            f"corruptions, mean over {self.versions} versions"
        )


def read_corruptions(fields: Fields) -> Corruptions:
    """The inverse of `to_json`. Raises ValueError naming the entry."""
    if unknown := sorted(fields.values.keys() - set(_ENTRIES)):
        fields.fail(unknown[0], f"no such entry; corruptions have {', '.join(_ENTRIES)}")
    counts = fields.fields("counts")
    if not counts.values:
        fields.fail("counts", "a list of counts for each corruption")
    try:
        made = Corruptions(
            images=fields.count("images"),
            counts={name: counts.counts(name) for name in counts.values},
            by_image=fields.counts("by_image"),
            seed=fields.count("seed"),
            elapsed_s=fields.number("elapsed_s", 0.0),
            inputs=fields.text("inputs"),
        )
    except ValueError as error:
        raise ValueError(str(error) if fields.where in str(error) else f"{fields.where}: {error}") from error
    if abs(fields.number("accuracy", 0.0, 1.0) - made.accuracy) > _TOLERANCE:
        fields.fail("accuracy", f"{made.accuracy:.6f}, as the counts make it")
    return made
