"""What an evaluation found: counts, the interval they allow, and doubts. Written to cards as JSON, read back checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harp.cards.answers import (
    Calibration,
    Confusion,
    accuracy_by_class,
    as_rows,
    calibration_error,
    check_answers,
    read_calibration,
    read_confusion,
)
from harp.cards.distances import Distances, median_distance, read_distances, withstanding
from harp.cards.fields import Fields
from harp.recipes import attack_label, how_words, threat_words, with_fields

_TOLERANCE = 1e-6
"""How far an accuracy on file may be from its own count: decimals, and less than one image of any test set."""
_ENTRIES = (
    *("attack", "norm", "eps", "images", "correct", "accuracy", "low", "high", "seed", "elapsed_s", "per_attack"),
    *("notes", "right", "step_size", "random_start", "restarts", "chance", "inputs", "engine"),
    *("confusion", "calibration", "distances"),
)
_LATER = {"inputs": "", "confusion": [], "calibration": [], "distances": []}
"""Entries that cards of earlier versions have not."""


def wilson(correct: int, images: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of Wilson 1927 for a proportion; z = 1.959964 makes it a 95 % interval.

    Unlike ± z·sqrt(p(1−p)/n) it stays inside [0, 1] and does not vanish at 0 and n.
    """
    if not 0 <= correct <= images or images < 1:
        raise ValueError(f"correct={correct} of images={images}: expected 0 <= correct <= images and images >= 1")
    p, shrink = correct / images, 1 + z**2 / images
    centre = (p + z**2 / (2 * images)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / images + (z / (2 * images)) ** 2)
    # At the ends one limit is exactly 0 or 1 on paper; rounding must not make it -1e-18.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == images else centre + half)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on ``images`` images, clean or under one attack. An image counts under attack only if it is right clean, too."""

    attack: str
    """``"clean"``, or the attack's name, e.g. ``"pgd-20"``, ``"autoattack"``."""
    norm: str | None
    eps: float | None
    """None for clean images, and for an attack that has no threat."""
    images: int
    correct: int
    seed: int
    elapsed_s: float
    per_attack: Mapping[str, float] = field(default_factory=dict)
    """AutoAttack only: the accuracy that remained after each of its attacks, in order."""
    notes: tuple[str, ...] = ()
    right: str = ""
    """One bit per image, 1 where it was classified right, hexadecimal, in `evaluation_order`: two models evaluated on the same
    data can be compared image by image. Empty when unknown."""
    step_size: float | None = None
    """Length of a step of PGD that was chosen; None is 2.5·eps/steps, or an attack without steps."""
    random_start: bool = True
    restarts: int = 1
    chance: float | None = None
    """Share of the most frequent class among the images: what always giving the same answer would reach."""
    inputs: str = ""
    """Digest of the data set that was read and of the user's own code. Empty when unknown."""
    engine: str = "torch"
    """What the attack ran on, ``"torch"`` or ``"sparse"``. What counts is torch's answer to the images it found."""
    confusion: Confusion = ()
    """(class, answer, images) wherever there are any; under attack, the answers to the images that the attack found, and
    to the others as they are. Empty when unknown."""
    calibration: Calibration = ()
    """Of clean images: (images, right ones, mean confidence) in 15 bins of confidence. Empty when unknown."""

    distances: Distances = ()
    """Of the attack ``"minimal"``: how far the nearest image is that fools the network, in `evaluation_order`; 0 where the image
    is wrong as it is, None where none was found."""

    def __post_init__(self) -> None:
        wilson(self.correct, self.images)  # raises when the counts make no sense
        if self.norm not in (None, "linf", "l2"):
            raise ValueError(f"norm={self.norm!r} must be 'linf', 'l2' or None")
        if self.engine not in ("torch", "sparse"):
            raise ValueError(f"engine={self.engine!r} must be 'torch' or 'sparse'")
        if self.eps is not None and not 0 <= self.eps < math.inf:
            raise ValueError(f"eps={self.eps} must be 0 or more and finite, or None")
        if not 0 <= self.elapsed_s < math.inf:
            raise ValueError(f"elapsed_s={self.elapsed_s} must be 0 or more and finite")
        for name, value in self.per_attack.items():
            if not 0 <= value <= 1:
                raise ValueError(f"per_attack[{name!r}]={value} must be a fraction in [0, 1]")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size={self.step_size} must be positive and finite, or None")
        if self.restarts < 1:
            raise ValueError(f"restarts={self.restarts} must be at least 1")
        if self.chance is not None and not 0 <= self.chance <= 1:
            raise ValueError(f"chance={self.chance} must be a fraction in [0, 1], or None")
        if self.right and sum(bits_of(self.right, self.images)) != self.correct:
            raise ValueError(f"right={self.right!r} does not mark {self.correct} of {self.images} images")
        if self.distances and len(self.distances) != self.images:
            raise ValueError(f"distances has {len(self.distances)} entries, expected one per image, {self.images}")
        check_answers(self.confusion, self.calibration, self.images, self.correct)

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def low(self) -> float:
        """Lower end of the 95 % Wilson interval."""
        return wilson(self.correct, self.images)[0]

    @property
    def high(self) -> float:
        return wilson(self.correct, self.images)[1]

    @property
    def at_chance(self) -> bool:
        """Whether a network that always gives the same answer could be as good, on clean images, as far as the interval tells."""
        return self.attack == "clean" and self.chance is not None and self.low <= self.chance

    @property
    def by_class(self) -> dict[int, tuple[int, int]]:
        """(right, images) of every class; empty when unknown."""
        return accuracy_by_class(self.confusion)

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error of clean images (ECE, 15 bins); None when unknown."""
        return calibration_error(self.calibration)

    @property
    def median_distance(self) -> float | None:
        """The radius at which half of the images are right; None when unknown, or where none is large enough."""
        return median_distance(self.distances)

    def at(self, eps: float) -> tuple[float, float, float]:
        """The accuracy at another radius, with the ends of its interval. Raises ValueError without distances."""
        if not self.distances:
            raise ValueError(f"{self.attack} measured no distances; the attack 'minimal' does")
        correct = withstanding(self.distances, eps)
        return correct / self.images, *wilson(correct, self.images)

    @property
    def how(self) -> tuple[str, ...]:
        """What the attack's name does not tell, in words; empty where all of it is the default."""
        return how_words(self.step_size, self.random_start, self.restarts)

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _ENTRIES}
        rows = {"confusion": as_rows(self.confusion), "calibration": as_rows(self.calibration)}
        return {
            **plain,
            "per_attack": dict(self.per_attack),
            "notes": list(self.notes),
            **rows,
            "distances": list(self.distances),
        }

    @classmethod
    def from_json(cls, record: Any, where: str = "an evaluation") -> "Evaluation":
        """The inverse of :meth:`to_json`, for cards of earlier versions, too.

        Raises ValueError naming ``where``, the entry that is missing, mistyped or contradictory, and what was expected.
        """
        if not isinstance(record, dict):
            raise ValueError(f"{where}: a JSON {type(record).__name__}, expected an object")
        fields = Fields(where, with_fields({**_LATER, **record}))
        for name in _ENTRIES:
            if name not in fields.values:
                fields.fail(name, "an entry that every evaluation has")
        if unknown := sorted(fields.values.keys() - set(_ENTRIES)):
            fields.fail(unknown[0], f"no such entry; an evaluation has {', '.join(_ENTRIES)}")
        values = _values_of(fields)
        try:
            made = cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for name in ("accuracy", "low", "high"):
            derived = getattr(made, name)
            if abs(fields.number(name, 0.0, 1.0) - derived) > _TOLERANCE:
                fields.fail(name, f"{derived:.6f}, as correct={made.correct} of images={made.images} make it")
        return made

    def __str__(self) -> str:
        under = "clean" if self.attack == "clean" else f"under {attack_label(self.attack)}"
        if self.norm is not None and self.eps is not None:
            under += f" {threat_words(self.norm, self.eps)}"
        under += "".join(f", {word}" for word in self.how)
        interval = f"[{self.low * 100:.1f}, {self.high * 100:.1f}]"
        middle = self.median_distance
        under += "" if middle is None else f"; median distance {threat_words(self.norm or 'l2', middle)}"
        return f"{self.accuracy * 100:.1f} % {interval} of {self.images} {under}"


def _values_of(fields: Fields) -> dict[str, Any]:
    images = fields.count("images")
    if images == 0:
        fields.fail("images", "at least one image")
    per_attack = fields.fields("per_attack")
    return {
        "attack": fields.text("attack"),
        "norm": fields.text("norm") if fields.has("norm") else None,
        "eps": fields.number("eps", 0.0) if fields.has("eps") else None,
        "images": images,
        "correct": fields.count("correct", high=images),
        "seed": fields.count("seed"),
        "elapsed_s": fields.number("elapsed_s", 0.0),
        "per_attack": {name: per_attack.number(name, 0.0, 1.0) for name in per_attack.values},
        "notes": fields.texts("notes"),
        "right": fields.text("right"),
        "step_size": fields.number("step_size", 0.0) if fields.has("step_size") else None,
        "random_start": fields.flag("random_start"),
        "restarts": fields.count("restarts"),
        "chance": fields.number("chance", 0.0, 1.0) if fields.has("chance") else None,
        "inputs": fields.text("inputs"),
        "engine": fields.text("engine"),
        "confusion": read_confusion(fields),
        "calibration": read_calibration(fields),
        "distances": read_distances(fields),
    }


def bits_of(text: str, images: int) -> list[bool]:
    """One bit for each image, the first in the highest bit of a hexadecimal text, zeros after the last.

    Raises ValueError when the text is not that of this many images.
    """
    if len(text) != (images + 3) // 4 or not all(digit in "0123456789abcdef" for digit in text):
        raise ValueError(f"{text[:32]!r} with {len(text)} digits is not one bit for each of {images} images")
    bits = [digit == "1" for nibble in text for digit in f"{int(nibble, 16):04b}"]
    if any(bits[images:]):
        raise ValueError(f"{text[:32]!r} has bits beyond its {images} images")
    return bits[:images]
