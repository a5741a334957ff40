"""A comparison read back: its cells by method, keep and granularity, each with what its seeds reached."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harp.report.compare_columns import EXTRA_COLUMNS
from harp.report.differences import FEWEST_SEEDS, Difference, OverSeeds, paired_difference, summary, verdict
from harp.report.reading import Run, read_run
from harp.report.results import Test, test_of
from harp.report.wording import method_name, plural

CLEAN = Test("clean", None, None)
DENSE = "dense"


@dataclass(frozen=True)
class Entry:
    """A finished network of a comparison: how it was made, and its run directory."""

    method: str
    keep: float
    granularity: str
    seed: int
    passes: int | float
    path: Path
    tuned: Mapping[str, str] = field(default_factory=dict)
    """The settings that were chosen for it, if any were tuned."""


@dataclass(frozen=True)
class Group:
    """The networks of one method, keep and granularity, by seed, and how they differ from the baseline's."""

    method: str
    keep: float
    granularity: str
    runs: Mapping[int, Run]
    passes: int | float
    values: Mapping[Test, Mapping[int, float]]
    """For each test the accuracy of each seed."""
    differences: Mapping[Test, Difference]
    """Empty for the baseline itself, and where the two share no seed."""
    extra: Mapping[str, OverSeeds | None]
    """The further columns, by name."""

    @property
    def name(self) -> str:
        """As people write it: ``"HARP+AWP"``."""
        return method_name(self.method)

    @property
    def verdict(self) -> str:
        return verdict(
            {test.name.replace("Clean", "clean"): difference for test, difference in self.differences.items()}
        )

    def summary(self, test: Test) -> OverSeeds | None:
        return summary(self.values[test].values())

    @property
    def kept(self) -> tuple[int, ...]:
        """How many weights stay: one number where all seeds agree."""
        return tuple(sorted({run.kept for run in self.runs.values()}))


@dataclass(frozen=True)
class CompareResults:
    """All that a comparison has finished so far."""

    entries: tuple[Entry, ...]
    tests: tuple[Test, ...]
    images: int
    baseline: str
    seeds: tuple[int, ...]
    runs: Mapping[Path, Run]
    columns: tuple[str, ...] = ()
    """Names of `EXTRA_COLUMNS`."""

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Dense first, then from much to little kept, the methods in the order they were given."""
        keys = dict.fromkeys((e.method, e.keep, e.granularity) for e in self.entries)
        order = sorted(keys, key=lambda key: (key[0] != DENSE, key[2], -key[1]))
        return tuple(self._group(*key) for key in order)

    @property
    def pruned(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.method != DENSE)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(group.method for group in self.pruned))

    def _group(self, method: str, keep: float, granularity: str) -> Group:
        mine = self._of(method, keep, granularity)
        values = {test: _accuracies(mine, test, self.images) for test in self.tests}
        theirs = {} if method in (self.baseline, DENSE) else self._of(self.baseline, keep, granularity)
        found = {test: paired_difference(values[test], _accuracies(theirs, test, self.images)) for test in self.tests}
        passes = next(e.passes for e in self.entries if e.method == method and e.keep == keep)
        differences = {test: difference for test, difference in found.items() if difference is not None}
        extra = {name: summary(_known(self.extra_of(run, name) for run in mine.values())) for name in self.columns}
        return Group(method, keep, granularity, mine, passes, values, differences, extra)

    def extra_of(self, run: Run, column: str) -> float | None:
        return EXTRA_COLUMNS[column].read(run, self.tests, self.images)

    def _of(self, method: str, keep: float, granularity: str) -> dict[int, Run]:
        wanted = (method, keep, granularity)
        return {e.seed: self.runs[e.path] for e in self.entries if (e.method, e.keep, e.granularity) == wanted}

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What makes the differences less than they seem."""
        found = []
        counted = [each.n for group in self.groups for each in group.differences.values()]
        if counted and min(counted) < FEWEST_SEEDS:
            found.append(f"Nothing is called better or worse on fewer than {FEWEST_SEEDS} seeds.")
        parents = sum(e.method == DENSE for e in self.entries)
        if 0 < parents < len(self.seeds):
            found.append(
                f"{len(self.seeds)} seeds from {plural(parents, 'parent', 'parents')}: seeds that share one differ in pruning and "
                "finetuning only, so the spread leaves out part of what another parent would change."
            )
        if settings := dict.fromkeys((e.method, e.keep, tuple(e.tuned.items())) for e in self.entries if e.tuned):
            chosen = (f"{method_name(m)} at keep {k:g} {', '.join(f'{n}={v}' for n, v in s)}" for m, k, s in settings)
            found.append(f"Settings were chosen for each method on validation images: {'; '.join(chosen)}.")
        for group in self.groups:
            lost = [seed for seed, run in group.runs.items() if _is_at_chance(run, self.images)]
            if lost:
                found.append(
                    f"{group.name} at keep {group.keep:g}: {len(lost)} of {len(group.runs)} not separably above chance, "
                    "where one and the same answer for every image would be as right."
                )
        found += filter(None, map(_strays, self.groups))
        if len(counted) >= 2 * 20:
            found.append(
                f"{len(counted)} intervals at 95 %: about {round(len(counted) / 20)} of them miss by chance alone."
            )
        return tuple(found)


def _strays(group: Group) -> str:
    """How many of a group missed their budget before the exact cut, and how many layers ran away; empty for none."""
    fractions = [run.fractions for run in group.runs.values()]
    missed = sum(bool(each.get("missed_budget")) for each in fractions)
    layers = sum(len(each.get("runaway_layers", ())) for each in fractions)
    if not missed and not layers:
        return ""
    return (
        f"{group.name} at keep {group.keep:g}: {missed} of {len(fractions)} missed the budget before the exact cut, and "
        f"{plural(layers, 'layer', 'layers')} rose by more than half of itself within an epoch."
    )


def read_compare_results(
    entries: Sequence[Entry],
    attack: Test | None,
    *,
    images: int,
    baseline: str,
    seeds: Sequence[int],
    columns: Sequence[str] = (),
) -> CompareResults:
    """Read the runs of a comparison, evaluated on so many images, clean and, unless it is None, under this attack."""
    tests = (CLEAN,) if attack is None else (CLEAN, attack)
    runs = {e.path: read_run(e.path) for e in entries}
    return CompareResults(tuple(entries), tests, images, baseline, tuple(seeds), runs, tuple(columns))


def records(results: CompareResults) -> list[dict[str, object]]:
    """One plain record per network, as ``--json`` writes them. Accuracies are fractions."""
    return [_record(entry, results) for entry in results.entries]


def _record(entry: Entry, results: CompareResults) -> dict[str, object]:
    run = results.runs[entry.path]
    accuracies = {test.attack: _accuracy(run, test, results.images) for test in results.tests}
    # What AutoAttack alone had left is what Square, the last of its parts, had.
    settled = [each for each in run.evaluations if (each.attack, each.images) == ("settled", results.images)]
    return {
        "method": entry.method,
        "keep": entry.keep,
        "granularity": entry.granularity,
        "seed": entry.seed,
        "clean": None,
        "autoattack": settled[-1].per_attack.get("square") if settled else None,
        **accuracies,
        **{column: results.extra_of(run, column) for column in results.columns},
        "kept": run.kept,
        "total": run.total,
        "passes": entry.passes,
        "tuned": dict(entry.tuned) or None,
        "run": str(entry.path),
    }


def _is_at_chance(run: Run, images: int) -> bool:
    return any(each.at_chance for each in run.evaluations if each.images == images)


def _accuracies(runs: Mapping[int, Run], test: Test, images: int) -> dict[int, float]:
    found = {seed: _accuracy(run, test, images) for seed, run in runs.items()}
    return {seed: accuracy for seed, accuracy in found.items() if accuracy is not None}


def _accuracy(run: Run, test: Test, images: int) -> float | None:
    """On so many images, neither more nor less: only then were all networks asked about the same ones."""
    matching = [e for e in run.evaluations if (test_of(e), e.images) == (test, images)]
    return matching[-1].accuracy if matching else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
