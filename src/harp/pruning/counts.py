"""Whole numbers of entries near given fractions, of exactly a given sum."""

import math
from collections.abc import Mapping


def exact_counts(
    keeps: Mapping[str, float], sizes: Mapping[str, int], total: int, *, most: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Integer quotas of exactly ``total`` entries, at least one a layer, as near as possible to the fractions ``keeps``.

    Rounded fractions that spend ``total`` stay as they are. Otherwise all logits are shifted by one common offset, found
    by bisection, until they do; what rounding down leaves over is handed out by largest remainder, ties by order.
    With ``most``, no layer gets more than that.
    """
    if most is not None:
        capped = {n: keep * sizes[n] / most[n] if most[n] < sizes[n] else keep for n, keep in keeps.items()}
        return exact_counts({n: min(keep, 1.0) for n, keep in capped.items()}, most, total)
    if not len(sizes) <= total <= sum(sizes.values()):
        raise ValueError(
            f"total={total} must lie between the {len(sizes)} layers and their {sum(sizes.values())} entries"
        )
    strange = {name: keep for name, keep in keeps.items() if not 0 <= keep <= 1}
    if strange:
        raise ValueError(f"keep fractions {strange} must lie in [0, 1]; if learning diverged, go back to a good state")
    rounded = {name: min(max(round(keeps[name] * size), 1), size) for name, size in sizes.items()}
    if sum(rounded.values()) == total:
        return rounded

    # 0 and 1 have no logit, so they count as a hair away.
    odds = {name: (keep := min(max(keeps[name], 1e-12), 1 - 1e-12)) / (1 - keep) for name in sizes}

    def spread(offset: float) -> dict[str, float]:
        by = math.exp(offset)
        return {n: min(max(size * odds[n] * by / (1 + odds[n] * by), 1.0), float(size)) for n, size in sizes.items()}

    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(spread(middle).values()) < total else (low, middle)
    # `low` spends less than `total`, so rounding down from there never overshoots.
    wanted = spread(low)
    counts = {name: math.floor(value + 1e-9) for name, value in wanted.items()}
    by_remainder = sorted(counts, key=lambda name: counts[name] - wanted[name])
    while sum(counts.values()) < total:
        for name in by_remainder:
            if counts[name] < sizes[name] and sum(counts.values()) < total:
                counts[name] += 1
    assert sum(counts.values()) == total
    return counts
