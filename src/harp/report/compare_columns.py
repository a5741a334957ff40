"""Columns of a comparison on request: what cards know of its networks beside accuracy, clean and under attack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harp.report.reading import Run
from harp.report.results import Test, best_evaluation

Reads = Callable[[Run, Sequence[Test], int], float | None]


@dataclass(frozen=True)
class ExtraColumn:
    """A title, and a fraction that is read off a run, its tests and their number of images."""

    title: str
    what: str
    read: Reads


def _corruptions(run: Run, tests: Sequence[Test], images: int) -> float | None:
    found = run.corruptions
    return None if found is None or found.images != images else found.accuracy


def _calibration(run: Run, tests: Sequence[Test], images: int) -> float | None:
    found = best_evaluation(run, tests[0])
    return None if found is None or found.images != images else found.calibration_error


def _worst_class(run: Run, tests: Sequence[Test], images: int) -> float | None:
    found = best_evaluation(run, tests[-1])
    if found is None or found.images != images or not found.by_class:
        return None
    return min(right / of for right, of in found.by_class.values())


EXTRA_COLUMNS: Mapping[str, ExtraColumn] = {
    "corruptions": ExtraColumn("corrupted", "mean accuracy under fifteen common corruptions", _corruptions),
    "calibration": ExtraColumn("ECE", "expected calibration error on clean images", _calibration),
    "worst-class": ExtraColumn("worst class", "accuracy of the worst class under the attack", _worst_class),
}
