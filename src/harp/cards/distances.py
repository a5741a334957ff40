"""How far each image is from being misclassified: as it stands on a card, and what follows from it."""

import statistics

from harp.cards.fields import Fields

Distances = tuple[float | None, ...]
"""One per image; 0 where it is wrong as it is, None where no image was found that fools the network."""


def median_distance(distances: Distances) -> float | None:
    """The radius at which half of the images are right; None when unknown, or where no radius is large enough."""
    known = [float("inf") if each is None else each for each in distances]
    if not known:
        return None
    middle = statistics.median_low(known)
    return None if middle == float("inf") else middle


def withstanding(distances: Distances, eps: float) -> int:
    """How many images no attack found a way to fool the network on within this radius; at 0, those that are right."""
    return sum(each is None or each > eps for each in distances)


def read_distances(fields: Fields) -> Distances:
    values = fields.values.get("distances")
    if not isinstance(values, list) or not all(_is_distance(each) for each in values):
        fields.fail("distances", "a list of numbers from 0, or null")
    return tuple(None if each is None else float(each) for each in values)


def _is_distance(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9)
