"""Choose settings for each method, on the validation images of the parents; the test set is never looked at.

Every point of the grid is a trial: pruned and finetuned from every parent. For each method, keep and granularity the point
of highest mean robust accuracy on the validation split is chosen, of equals that of higher clean accuracy, then the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from harp.cards import read_card
from harp.compare.grid import Key, Point, label
from harp.compare.plan import Cell, ComparePlan
from harp.files import write_json
from harp.runs.claim import OtherRun
from harp.runs.directory import RunDirectory
from harp.stages.pipeline import is_trained


@dataclass(frozen=True)
class Tried:
    """A point at which all seeds are finished, with the means of their validation accuracies."""

    point: Point
    robust: float
    clean: float
    passes: int | float
    """Per training image and seed."""


@dataclass(frozen=True)
class Tuned:
    """What was tried for one method, keep and granularity, the chosen point first."""

    key: Key
    tried: tuple[Tried, ...]

    @property
    def passes(self) -> int | float:
        """Of the trials that were not chosen, per training image and seed: what tuning cost."""
        return sum(each.passes for each in self.tried[1:])


def tune(plan: ComparePlan) -> ComparePlan:
    """The plan with a choice for everything that has a finished trial, which is also written down in ``tuning.json``."""
    found = [*tuned(plan)]
    write_json(
        plan.out / "tuning.json", {"grid": {a.name: list(a.values) for a in plan.tune}, "chosen": _records(found)}
    )
    return replace(plan, choices={each.key: each.tried[0].point for each in found})


def tuned(plan: ComparePlan) -> Iterator[Tuned]:
    """What the trials have found so far."""
    trials: dict[Key, dict[Point, list[Cell]]] = {}
    for cell in plan.trials:
        trials.setdefault(cell.key, {}).setdefault(cell.point, []).append(cell)
    for key, points in trials.items():
        tried = [_tried(point, cells) for point, cells in points.items() if all(map(is_sound, cells))]
        if tried:
            yield Tuned(key, tuple(sorted(tried, key=lambda each: (-each.robust, -each.clean))))


def is_sound(cell: Cell) -> bool:
    """Whether a trial is finished; one that failed may have left anything."""
    try:
        return RunDirectory(cell.parent).finished and is_trained(cell.recipe, cell.parent, cell.out)
    except (OtherRun, ValueError, OSError):
        return False


def _tried(point: Point, cells: Sequence[Cell]) -> Tried:
    found = [read_card(RunDirectory(cell.final).card).values["validation"] for cell in cells]
    robust, clean = (mean(each[f"{kind}_accuracy"] for each in found) for kind in ("robust", "clean"))
    return Tried(point, robust, clean, cells[0].passes)


def _records(found: Sequence[Tuned]) -> list[dict[str, object]]:
    return [
        {
            "method": each.key[0],
            "keep": each.key[1],
            "granularity": each.key[2],
            "settings": dict(each.tried[0].point),
            "passes": each.passes,
            "tried": [
                {"settings": dict(t.point), "robust_accuracy": t.robust, "clean_accuracy": t.clean} for t in each.tried
            ],
        }
        for each in found
    ]


def said(found: Sequence[Tuned]) -> Iterator[str]:
    """What was chosen, one line for each."""
    for each in found:
        method, keep, granularity = each.key
        best = each.tried[0]
        of = "" if granularity == "weight" else f" of {granularity}s"
        yield (
            f"{method} at keep {keep:g}{of}: {label(best.point)}, chosen among {len(each.tried)} by {100 * best.robust:.1f} % under "
            f"attack on validation images; the other trials took {each.passes:,.0f} passes per image"
        )
