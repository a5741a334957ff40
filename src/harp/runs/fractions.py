"""How learned keep fractions came down to the budget, for the card: whether they missed it, and which layers ran away."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from harp.training.progress import EpochMetrics

RUNAWAY = 0.5
"""A layer whose fraction rises by more than this within an epoch has run away: it takes half of itself back at once."""


def of_fractions(start: Mapping[str, float], records: Sequence[EpochMetrics]) -> dict[str, Any]:
    """What a card says of a stage that learned keep fractions from ``start``, with one record an epoch.

    ``missed_budget``: no epoch met it, and the masks were cut to it without learning from the cut.
    """
    epochs = [start, *(record.layers for record in records)]
    rises = {name: max(after[name] - before[name] for before, after in pairwise(epochs)) for name in start}
    return {
        "missed_budget": not any(record.met_budget for record in records),
        "epochs_over_budget": sum(not record.met_budget for record in records),
        "density": records[-1].density,
        "largest_rise": max(rises.values()),
        "runaway_layers": [name for name, rise in rises.items() if rise > RUNAWAY],
    }
