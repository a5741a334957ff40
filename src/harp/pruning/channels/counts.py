"""Whole numbers of channels that spend a budget: never more, and so much that no further channel fits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harp.pruning.channels.coupling import Polynomial


@dataclass(frozen=True)
class Limit:
    """A polynomial in the channels kept, and the most that it may come to."""

    cost: Polynomial
    most: int

    def spent(self, counts: Mapping[str, int]) -> int:
        """The cost of so many channels in each group, exactly."""
        return sum(c * math.prod(counts[name] for name in names) for names, c in self.cost.items())


def allowed_counts(size: int, step: int) -> list[int]:
    """How many of a group's channels may stay: multiples of ``step``, and all of them."""
    return [*range(step, size, step), size]


def counts_within(
    limits: Sequence[Limit], keeps: Mapping[str, float], allowed: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """The allowed counts nearest to the fractions ``keeps`` that no limit forbids, and to which nothing can be added.

    All logits are shifted by one common offset, found by bisection, and rounded down; what is left over goes to
    the groups by largest remainder. The smallest counts must be within all limits.
    """
    # 0 and 1 have no logit, so they count as a hair away.
    odds = {name: (keep := min(max(keeps[name], 1e-12), 1 - 1e-12)) / (1 - keep) for name in allowed}

    def wanted(offset: float) -> dict[str, float]:
        by = math.exp(offset)
        return {name: allowed[name][-1] * o * by / (1 + o * by) for name, o in odds.items()}

    def down(values: Mapping[str, float]) -> dict[str, int]:
        return {
            n: max((c for c in allowed[n] if c <= value + 1e-9), default=allowed[n][0]) for n, value in values.items()
        }

    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        fits = all(limit.spent(down(wanted(middle))) <= limit.most for limit in limits)
        low, high = (middle, high) if fits else (low, middle)
    values = wanted(low)
    counts = down(values)
    return _filled(limits, counts, sorted(counts, key=lambda name: counts[name] - values[name]), allowed)


def _filled(
    limits: Sequence[Limit], counts: dict[str, int], order: Sequence[str], allowed: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Take the next allowed count of each group in turn wherever every limit lets it, until none does."""
    following = {name: dict(pairwise(steps)) for name, steps in allowed.items()}
    left = [limit.most - limit.spent(counts) for limit in limits]
    touching = [
        {name: {names: c for names, c in limit.cost.items() if name in names} for name in order} for limit in limits
    ]
    grown = True
    while grown:
        grown = False
        for name in order:
            if counts[name] not in following[name]:
                continue
            more = counts | {name: following[name][counts[name]]}
            prices = [Limit(parts[name], 0).spent(more) - Limit(parts[name], 0).spent(counts) for parts in touching]
            if all(price <= rest for price, rest in zip(prices, left, strict=True)):
                counts, grown = more, True
                left = [rest - price for price, rest in zip(prices, left, strict=True)]
    return counts
