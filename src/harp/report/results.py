"""The table of runs: counts and accuracies with their intervals, and the difference to the dense parent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harp.cards import Evaluation
from harp.recipes import attack_label, attack_order, chance_words
from harp.report.chart import Scale, accuracy_scale
from harp.report.family import Family, Look
from harp.report.reading import Run
from harp.report.wording import (
    count,
    eps_text,
    interval,
    method_name,
    percent,
    points,
    share,
    threat_text,
    whole_percent,
)


@dataclass(frozen=True)
class Test:
    """What one column of accuracies has in common."""

    attack: str
    norm: str | None
    eps: float | None
    how: tuple[str, ...] = ()
    """What the attack's name does not tell, in words."""

    @property
    def name(self) -> str:
        return attack_label(self.attack)

    @property
    def threat(self) -> str:
        return ", ".join([*filter(None, [threat_text(self.norm, self.eps)]), *self.how])


@dataclass(frozen=True)
class Column:
    test: Test
    images: str  # how many, when it is the same number everywhere


@dataclass(frozen=True)
class Accuracy:
    """One accuracy. `start`, `end` and `at` place its interval on the common axis, in percent of the width."""

    sort: float
    accuracy: str
    interval: str
    images: str
    difference: str
    difference_from: str
    start: float
    end: float
    at: float
    chance: str = ""
    """Said of a network that may be no better than always giving one answer."""


@dataclass(frozen=True)
class Row:
    look: Look
    run: Run
    method: str
    kept: str
    total: str
    keep: str
    cells: tuple[Accuracy | None, ...]


@dataclass(frozen=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    axis: tuple[str, str]  # what the left and right end of every interval bar stand for
    unlisted: int  # runs in the middle of a lineage that were never evaluated
    caveats: tuple[str, ...] = ()  # what makes its numbers less than they seem


@dataclass(frozen=True)
class BreakdownRow:
    look: Look
    threat: str
    images: str
    left: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Breakdown:
    """How much accuracy each attack of AutoAttack left, one after the other."""

    attacks: tuple[str, ...]
    rows: tuple[BreakdownRow, ...]


def test_of(each: Evaluation) -> Test:
    """The column that an evaluation belongs to."""
    return Test(each.attack, each.norm, each.eps, each.how)


def best_evaluation(run: Run | None, test: Test) -> Evaluation | None:
    """The evaluation on the most images, the latest of them; None when the run was not evaluated this way."""
    matching = [each for each in (run.evaluations if run is not None else ()) if test_of(each) == test]
    return max(reversed(matching), key=lambda each: each.images, default=None)


def tests_of(runs: Sequence[Run]) -> tuple[Test, ...]:
    """Every combination of attack, norm and eps that any run was evaluated with, weak attacks and small eps first."""
    found = {test_of(each) for run in runs for each in run.evaluations}
    return tuple(
        sorted(found, key=lambda test: (attack_order(test.attack), test.norm or "", test.eps or 0.0, test.how))
    )


def headline_tests(runs: Sequence[Run]) -> tuple[Test, ...]:
    """One eps for each attack and norm: of those that most runs share, the one trained for, or else the largest."""
    trained = {eps for run in runs for eps in _numbers_named(run.recipe, "eps")}

    def rank(test: Test) -> tuple[int, bool, float, bool]:
        shared = sum(best_evaluation(run, test) is not None for run in runs)
        return shared, test.eps in trained, test.eps or 0.0, not test.how

    chosen: dict[tuple[str, str | None], Test] = {}
    for test in tests_of(runs):
        key = (test.attack, test.norm)
        chosen[key] = max(chosen.get(key, test), test, key=rank)
    return tuple(chosen.values())


def _numbers_named(recipe: object, name: str) -> set[object]:
    """Every number that stands under `name` anywhere in a recipe."""
    if not isinstance(recipe, Mapping):
        return set()
    here = {value for key, value in recipe.items() if key == name and isinstance(value, int | float)}
    return set().union(here, *(_numbers_named(value, name) for value in recipe.values()))


def results_table(family: Family, looks: Mapping[Run, Look]) -> Table:
    tips = family.tips()
    runs = [run for run in family.given if run in tips or run.evaluations]
    tests = headline_tests(runs)
    values = [best_evaluation(run, test) for run in runs for test in tests]
    scale = accuracy_scale(
        [bound for each in values if each is not None for bound in (each.low, each.high)] or [0.0, 1.0]
    )
    columns = tuple(_column(test, runs) for test in tests)
    rows = tuple(
        Row(
            look=looks[run],
            run=run,
            method=method_name(run.method),
            kept=count(run.kept),
            total=count(run.total),
            keep=share(run.kept / run.total) if run.total else share(run.keep),
            cells=tuple(_cell(run, family.dense_parent(run), column, scale) for column in columns),
        )
        for run in runs
    )
    return Table(
        columns,
        rows,
        (whole_percent(scale.low), whole_percent(scale.high)),
        len(family.given) - len(runs),
        tuple(f"{row.look.label} is {cell.chance}." for row in rows for cell in row.cells if cell and cell.chance),
    )


def _column(test: Test, runs: Sequence[Run]) -> Column:
    numbers = {each.images for run in runs if (each := best_evaluation(run, test)) is not None}
    return Column(test, count(numbers.pop()) if len(numbers) == 1 else "")


def _cell(run: Run, dense: Run | None, column: Column, scale: Scale) -> Accuracy | None:
    found = best_evaluation(run, column.test)
    if found is None:
        return None
    before = best_evaluation(dense, column.test) if run.method is not None else None
    return Accuracy(
        sort=found.accuracy,
        accuracy=percent(found.accuracy),
        interval=interval(found.low, found.high),
        images="" if column.images else count(found.images),
        difference=points(found.accuracy - before.accuracy) if before is not None else "",
        difference_from=f"dense: {percent(before.accuracy)} of {count(before.images)} images" if before else "",
        start=100 * scale.part(found.low),
        end=100 * scale.part(found.high),
        at=100 * scale.part(found.accuracy),
        chance=chance_words(found.chance) if found.at_chance and found.chance is not None else "",
    )


def _nearness(each: Evaluation) -> tuple[str, ...]:
    return () if each.median_distance is None else (f"median distance {eps_text(each.median_distance)}",)


def breakdown(family: Family, looks: Mapping[Run, Look]) -> Breakdown:
    """Rows in the order of the tests, so that runs under the same attack and eps stand together."""
    found = [
        (run, each, test)
        for test in tests_of(family.given)
        for run in family.given
        if (each := best_evaluation(run, test)) is not None and (each.per_attack or each.notes)
    ]
    attacks = tuple(dict.fromkeys(name for _, each, _ in found for name in each.per_attack))
    rows = tuple(
        BreakdownRow(
            look=looks[run],
            threat=f"{test.name} {test.threat}".strip(),
            images=count(each.images),
            left=tuple(percent(each.per_attack.get(name)) for name in attacks),
            notes=(*_nearness(each), *each.notes),
        )
        for run, each, test in found
    )
    return Breakdown(tuple(attack_label(name) for name in attacks), rows)
