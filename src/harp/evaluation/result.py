"""What an evaluation found: counts, the interval they allow, and doubts. Written to cards as JSON, read back checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from harp.attacks import Threat
from harp.recipes import how_words, with_fields

_TITLES = {"autoattack": "AutoAttack"}
_TOLERANCE = 1e-6
"""How far an accuracy on file may be from its own count: decimals, never an image."""


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
    """One bit an image, 1 where it was classified right, hexadecimal, in `evaluation_order`: two models judged on the same
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
        if self.right and int(unpack(self.right, self.images).sum()) != self.correct:
            raise ValueError(f"right={self.right!r} does not mark {self.correct} of {self.images} images")

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
    def how(self) -> tuple[str, ...]:
        """What the attack's name does not tell, in words; empty where all of it is the default."""
        return how_words(self.step_size, self.random_start, self.restarts)

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _FIELDS}
        return {**plain, "per_attack": dict(self.per_attack), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, record: Any) -> "Evaluation":
        """The inverse of :meth:`to_json`. Raises ValueError naming the entry that is missing, mistyped or contradictory."""
        if not isinstance(record, dict):
            raise ValueError(f"an evaluation is a JSON object, got {type(record).__name__}")
        record = with_fields({"inputs": "", **record})
        for name, kinds in _FIELDS.items():
            value = record.get(name)
            if name not in record or isinstance(value, bool) != (kinds == (bool,)) or not isinstance(value, kinds):
                raise ValueError(
                    f"{name}={value!r} in an evaluation: expected {' or '.join(k.__name__ for k in kinds)}"
                )
        if unknown := record.keys() - _FIELDS.keys():
            raise ValueError(f"an evaluation has no {sorted(unknown)}; it holds {list(_FIELDS)}")
        texts, numbers = record["notes"], record["per_attack"].values()
        if not all(isinstance(t, str) for t in texts) or not all(type(v) in (int, float) for v in numbers):
            raise ValueError(f"notes={texts!r} must be texts and per_attack={record['per_attack']!r} numbers")
        derived = {name: record.pop(name) for name in ("accuracy", "low", "high")}
        made = cls(**{**record, "notes": tuple(texts)})
        for name, value in derived.items():
            if not abs(value - getattr(made, name)) <= _TOLERANCE:
                raise ValueError(
                    f"{name}={value} contradicts correct={made.correct} of images={made.images}, "
                    f"which make it {getattr(made, name):.6f}"
                )
        return made

    def __str__(self) -> str:
        under = "clean" if self.attack == "clean" else f"under {_TITLES.get(self.attack, self.attack.upper())}"
        if self.norm in ("linf", "l2") and self.eps is not None:
            under += f" {Threat(self.norm, self.eps)}"
        under += "".join(f", {word}" for word in self.how)
        interval = f"[{self.low * 100:.1f}, {self.high * 100:.1f}]"
        return f"{self.accuracy * 100:.1f} % {interval} of {self.images} {under}"


_NUMBER = (int, float)
_NOTHING = type(None)
_FIELDS: dict[str, tuple[type, ...]] = {
    "attack": (str,),
    "norm": (str, _NOTHING),
    "eps": (*_NUMBER, _NOTHING),
    "images": (int,),
    "correct": (int,),
    "accuracy": _NUMBER,
    "low": _NUMBER,
    "high": _NUMBER,
    "seed": (int,),
    "elapsed_s": _NUMBER,
    "per_attack": (dict,),
    "notes": (list,),
    "right": (str,),
    "step_size": (*_NUMBER, _NOTHING),
    "random_start": (bool,),
    "restarts": (int,),
    "chance": (*_NUMBER, _NOTHING),
    "inputs": (str,),
    "engine": (str,),
}


def pack(flags: Bool[Tensor, " images"]) -> str:
    """Hexadecimal, the first image in the highest bit, zeros after the last."""
    padded = torch.cat([flags, flags.new_zeros(-len(flags) % 4)])
    return "".join(f"{int(''.join(map(str, nibble)), 2):x}" for nibble in padded.int().view(-1, 4).tolist())


def unpack(text: str, images: int) -> Bool[Tensor, " images"]:
    """The inverse of :func:`pack`. Raises ValueError when the text is not that of this many images."""
    if len(text) != (images + 3) // 4 or not all(digit in "0123456789abcdef" for digit in text):
        raise ValueError(f"{text[:32]!r} with {len(text)} digits is not one bit for each of {images} images")
    bits = [int(bit) for digit in text for bit in f"{int(digit, 16):04b}"]
    if any(bits[images:]):
        raise ValueError(f"{text[:32]!r} has bits beyond its {images} images")
    return torch.tensor(bits[:images], dtype=torch.bool)


def contradictions(evaluations: Sequence[Evaluation]) -> list[str]:
    """What cannot all be true of one model on the same images: signs that an attack failed, not that the model is robust.

    An attack cannot leave more images right than there are clean, AutoAttack not more than a plain attack of the same
    radius, and no attack more than at a smaller radius. Half a percent is granted to random starts.
    """
    found = []
    for weak in evaluations:
        for strong in evaluations:
            if weak.images == strong.images and _stronger(strong, weak) and strong.accuracy > weak.accuracy + 0.005:
                found.append(
                    f"{strong} cannot be more than {weak}: the stronger attack fails, or the weaker is not sound"
                )
    return found


def _stronger(one: Evaluation, other: Evaluation) -> bool:
    if "clean" in (one.attack, other.attack):
        return one.attack != other.attack == "clean"
    if one.norm != other.norm or one.eps is None or other.eps is None:
        return False
    if one.attack == other.attack:
        return one.eps > other.eps
    return one.attack == "autoattack" and one.eps >= other.eps
