"""What several seeds say: means with their spread, and paired differences with the interval that Student's t allows."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

FEWEST_SEEDS = 3
"""On fewer nothing is called better: with two seeds the 95 % interval is 12.7 standard errors to each side."""


@dataclass(frozen=True)
class OverSeeds:
    """``spread`` is the sample standard deviation; None of a single value."""

    n: int
    mean: float
    spread: float | None
    least: float
    most: float

    @property
    def ends(self) -> tuple[float, float]:
        """Mean ± spread of fractions, which neither fall below 0 nor exceed 1."""
        return max(0.0, self.mean - (self.spread or 0.0)), min(1.0, self.mean + (self.spread or 0.0))


@dataclass(frozen=True)
class Difference:
    """The mean of n paired differences, and its 95 % interval; None when there is a single pair."""

    n: int
    mean: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """1 or −1 when the interval lies on one side of 0 and there are seeds enough to say so, otherwise 0."""
        if self.n < FEWEST_SEEDS or self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def summary(values: Iterable[float]) -> OverSeeds | None:
    """None of no values."""
    found = list(values)
    if not found:
        return None
    spread = statistics.stdev(found) if len(found) > 1 else None
    return OverSeeds(len(found), statistics.fmean(found), spread, min(found), max(found))


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """Ours less theirs over the seeds that both have: mean ± t(0.975, n − 1) · s / √n; None when they share none.

    Both of a pair start from the same parent and are evaluated on the same images, so their effects cancel.
    """
    found = summary(ours[seed] - theirs[seed] for seed in ours if seed in theirs)
    if found is None:
        return None
    if found.spread is None:
        return Difference(1, found.mean, None, None)
    half = float(stdtrit(found.n - 1, 0.975)) * found.spread / math.sqrt(found.n)
    return Difference(found.n, found.mean, found.mean - half, found.mean + half)


def verdict(differences: Mapping[str, Difference | None]) -> str:
    """What the differences under each name (``"clean"``, ``"AutoAttack"``) allow to say, in words."""
    known = {name: each for name, each in differences.items() if each is not None}
    if not known:
        return ""
    if min(each.n for each in known.values()) < FEWEST_SEEDS:
        return "too few seeds"
    said = [(word, [name for name, each in known.items() if each.sign == sign]) for word, sign in _WORDS]
    return "; ".join(f"{word}: {' and '.join(names)}" for word, names in said if names) or "not separable"


_WORDS = (("better", 1), ("worse", -1))
