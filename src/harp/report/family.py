"""Which runs belong together: parents and children, experiments, and one label and one colour for each run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harp.recipes import OWN_METHODS
from harp.report.reading import Run, is_run, read_run

TONES = tuple(OWN_METHODS)  # methods with a colour of their own, in the order in which they are listed
SPARE_TONES = ("other-1", "other-2", "other-3")
DASHES = ("", "7 3", "2 3", "9 3 2 3")  # runs of one method: the sparsest solid
PAGES = (".html", ".htm")
STAGES = ("pretrain", "prune", "finetune")


@dataclass(frozen=True)
class Look:
    """How a run is called and drawn, the same in every table and figure."""

    label: str
    tone: str  # a class of the style sheet
    dash: str  # SVG stroke-dasharray


@dataclass(frozen=True)
class Family:
    """The runs that were asked for, and every ancestor of theirs that could be found, by resolved path."""

    given: tuple[Run, ...]
    known: Mapping[Path, Run]

    def ancestors(self, run: Run) -> tuple[Run, ...]:
        """Parent, grandparent, ... as far as they are known. Raises ValueError when a parent is its own descendant."""
        chain = [run]
        while (home := chain[-1].parent_home) is not None and home in self.known:
            chain.append(self.known[home])
            if chain[-1] in chain[:-1]:
                raise ValueError(f"{run.path / 'card.json'}: following parent leads back to {chain[-1].path}")
        return tuple(chain[1:])

    def dense_parent(self, run: Run) -> Run | None:
        """The nearest ancestor without a pruning method."""
        return next((each for each in self.ancestors(run) if each.method is None), None)

    def tips(self) -> tuple[Run, ...]:
        """Dense runs, and pruned runs that no other given run continues: what a figure of results shows."""
        continued = {ancestor for run in self.given for ancestor in self.ancestors(run)}
        return tuple(run for run in self.given if run.method is None or run not in continued)


def read_family(paths: Iterable[Path]) -> Family:
    """Read runs and their ancestors. A directory named twice counts once; a parent that is gone is not an error.

    An HTML file among the paths is passed over: `harp report runs/*` meets the report of the last time.
    """
    given = {path.resolve(): path for path in paths if path.suffix.lower() not in PAGES or path.is_dir()}
    known = {home: read_run(path) for home, path in given.items()}
    waiting = list(known.values())
    while waiting:
        home = waiting.pop().parent_home
        if home is not None and home not in known and is_run(home):
            known[home] = read_run(home)
            waiting.append(known[home])
    family = Family(tuple(sorted((known[home] for home in given), key=_rank)), known)
    for run in family.given:
        family.ancestors(run)
    return family


def _rank(run: Run) -> tuple:
    """Dense first, then from much to little kept, then by method."""
    method = run.method or ""
    order = TONES.index(method) if method in TONES else len(TONES)
    stage = STAGES.index(run.stage) if run.stage in STAGES else len(STAGES)
    return run.data, run.model, run.method is not None, -run.keep, order, method, run.seed or 0, stage, str(run.path)


def experiments(family: Family) -> tuple[Family, ...]:
    """One family for each pair of data set and model: only there do layers, images and differences compare."""
    pairs = dict.fromkeys((run.data, run.model) for run in family.given)
    return tuple(
        Family(tuple(run for run in family.given if (run.data, run.model) == pair), family.known) for pair in pairs
    )


def looks(family: Family) -> dict[Run, Look]:
    """How each given run and each of its ancestors is called and drawn."""
    drawn = dict.fromkeys(each for run in family.given for each in (run, *family.ancestors(run)))
    tips = family.tips()
    ends = [run for run in drawn if run in tips or run.method is None]
    between = [run for run in drawn if run not in ends]
    labels = {**_labels(ends, bare=True), **_labels(between, bare=False)}
    runs = sorted(labels, key=_rank)
    return {run: Look(labels[run], _tone(run, runs), _dash(run, runs)) for run in runs}


def _tone(run: Run, runs: Sequence[Run]) -> str:
    if run.method is None or run.method in TONES:
        return run.method or "dense"
    strangers = sorted({each.method for each in runs if each.method is not None and each.method not in TONES})
    return SPARE_TONES[strangers.index(run.method) % len(SPARE_TONES)]


def _dash(run: Run, runs: Sequence[Run]) -> str:
    keeps = sorted({each.keep for each in runs if each.method == run.method})
    return DASHES[keeps.index(run.keep) % len(DASHES)]


def _labels(runs: Sequence[Run], bare: bool) -> dict[Run, str]:
    """The card's name, with just enough added where several runs share it: stage, seed, or the directory.

    Runs in the middle of a lineage have the name of its end, so theirs are never `bare`.
    """
    labels: dict[Run, str] = {}
    for name in dict.fromkeys(run.name for run in runs):
        same = [run for run in runs if run.name == name]
        candidates = [
            [f"{name}, {run.stage}" for run in same],
            [f"{name}, seed {run.seed}" for run in same],
            [f"{name}, {run.stage}, seed {run.seed}" for run in same],
            [f"{name}, {run.path.name}" for run in same],
            [f"{name}, {run.path}" for run in same],
        ]
        if bare:
            candidates.insert(0, [name for _ in same])
        best = next((labelled for labelled in candidates if len(set(labelled)) == len(same)), candidates[-1])
        labels.update(zip(same, best, strict=True))
    return labels
