"""What of a comparison is still to be done, as commands that any engine can run."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harp.compare.plan import Cell, Comparison
from harp.data import ImageData
from harp.importing import VARIABLE
from harp.recipes import PRESETS, Recipe, changes, flags, flat, how_words, to_json
from harp.report.results import Test
from harp.report.sweep import DENSE, Entry, Sweep, read_sweep
from harp.runs.claim import Claim, OtherRun
from harp.runs.directory import RunDirectory
from harp.runs.opening import check_budget, open_data, open_run
from harp.stages.evaluate import attacks_of, how_of, is_judged
from harp.stages.pipeline import cell_is_done


@dataclass(frozen=True)
class Job:
    """One command, ``harp`` followed by ``words``; what it prints goes to ``log``. ``cell`` is None for a parent."""

    name: str
    words: tuple[str, ...]
    log: Path
    cell: Cell | None = None
    needs: Path | None = None
    """A run that has to be finished first."""

    def __str__(self) -> str:
        imports = os.environ.get(VARIABLE)
        return (f"{VARIABLE}={shlex.quote(imports)} " if imports else "") + shlex.join(["harp", *self.words])


@dataclass(frozen=True)
class Todo:
    """``first`` trains parents; then ``rest``, in any order and at the same time."""

    first: tuple[Job, ...]
    rest: tuple[Job, ...]
    finished: int
    """Cells that are done already."""
    cells: int


def outstanding(comparison: Comparison, *, overwrite: bool = False) -> Todo:
    """What a look at the directories leaves to do; changes nothing.

    Raises ValueError for parents that are none, for budgets that cannot be met, and, unless they may be overwritten,
    for runs of other settings.
    """
    for parent in comparison.parents:
        if open_run(parent).masks.exists():
            raise ValueError(f"parents names {parent}, which is pruned already; name the dense run that it came from")
    data = _open_as_parents(comparison)
    tests = len(data.test)
    for recipe in {(c.recipe.prune.granularity, c.recipe.prune.keep): c.recipe for c in comparison.cells}.values():
        check_budget(recipe, data)
    first = tuple(_trainings(comparison, overwrite))
    cells = [cell for cell in comparison.cells if not _is_done(cell, tests, overwrite)]
    rest = [*_judgements(comparison, tests), *(_job_of(cell, comparison, overwrite) for cell in cells)]
    return Todo(first, tuple(rest), len(comparison.cells) - len(cells), len(comparison.cells))


def finished(comparison: Comparison) -> Sweep:
    """The cells and parents that are done, read back."""
    tests, recipe = len(_open_as_parents(comparison).test), comparison.recipe
    made = [
        Entry(c.method, c.recipe.prune.keep, c.recipe.prune.granularity, c.recipe.seed, c.passes, c.final)
        for c in comparison.cells
        if _is_sound(c, tests)
    ]
    dense = [
        Entry(DENSE, 1.0, "weight", seed, 0, parent)
        for parent, seed in sorted(comparison.dense.items(), key=lambda item: item[1])
        if RunDirectory(parent).finished and is_judged(parent, recipe.test, tests)
    ]
    attack = (*attacks_of(recipe.test, recipe), None)[1]
    test = (
        None if attack is None else Test(attack.name, attack.threat.norm, attack.threat.eps, how_words(*how_of(attack)))
    )
    images = min(recipe.test.images or tests, tests)
    return read_sweep([*dense, *made], test, images=images, baseline=comparison.reference, seeds=comparison.seeds)


def _open_as_parents(comparison: Comparison) -> ImageData:
    """The images without the files that the parents left out, where there is one."""
    parents = (RunDirectory(parent) for parent in comparison.dense)
    return open_data(comparison.recipe, run=next((run for run in parents if run.inputs.exists()), None))


def _is_sound(cell: Cell, tests: int) -> bool:
    """Whether a cell is done; one that failed may have left anything."""
    try:
        return _is_done(cell, tests, overwrite=True)
    except (ValueError, OSError):
        return False


def _is_done(cell: Cell, tests: int, overwrite: bool) -> bool:
    if not RunDirectory(cell.parent).finished:
        return False
    try:
        return cell_is_done(cell.recipe, cell.parent, cell.out, tests)
    except OtherRun:
        if not overwrite:
            raise
        return False


def _trainings(comparison: Comparison, overwrite: bool) -> Iterator[Job]:
    if comparison.parents:
        return
    start = PRESETS[comparison.preset][1]
    for parent, seed in comparison.dense.items():
        recipe = comparison.recipe_of_parent(seed)
        replaced: tuple[str, ...] = ()
        try:
            if Claim("pretrain", recipe, RunDirectory(parent), split_seed=seed).is_done():
                continue
        except OtherRun:
            if not overwrite:
                raise
            replaced = ("--overwrite",)
        words = flags(changes(_of_pretrain(start), _of_pretrain(recipe)))
        out = ("--out", str(parent), *replaced)
        yield Job(parent.name, ("pretrain", comparison.preset, *words, *out), _log(comparison, parent.name))


def _judgements(comparison: Comparison, tests: int) -> Iterator[Job]:
    """The parents are judged like the cells: what pruning cost is seen beside them."""
    for parent, seed in comparison.dense.items():
        if RunDirectory(parent).finished and is_judged(parent, comparison.recipe.test, tests):
            continue
        theirs = comparison.recipe_of_parent(seed)
        mine = replace(theirs, test=comparison.recipe.test, compute=comparison.recipe.compute)
        words = ("evaluate", str(parent), *flags(changes(_of_evaluate(theirs), _of_evaluate(mine))))
        name = parent.name if parent.parent == comparison.out else f"dense-s{seed}"
        yield Job(f"{name}, judged", words, _log(comparison, f"{name}-judged"), needs=parent)


def _job_of(cell: Cell, comparison: Comparison, overwrite: bool) -> Job:
    theirs = comparison.recipe_of_parent(cell.recipe.seed)
    words = flags(changes(flat(to_json(theirs)), flat(to_json(cell.recipe))))
    out = ("--out", str(cell.out), *(("--overwrite",) if overwrite else ()))
    words = ("cell", str(cell.parent), *words, *out)
    return Job(cell.name, words, _log(comparison, cell.name), cell, needs=cell.parent)


def _log(comparison: Comparison, name: str) -> Path:
    return comparison.out / "logs" / f"{name}.log"


def _of_pretrain(recipe: Recipe) -> Mapping[str, Any]:
    return _of_stage(recipe, "pretrain") | flat({"task": to_json(recipe.task)}) | {"seed": recipe.seed}


def _of_evaluate(recipe: Recipe) -> Mapping[str, Any]:
    return _of_stage(recipe, "test")


def _of_stage(recipe: Recipe, stage: str) -> dict[str, Any]:
    """The settings of a stage's command: its own without a prefix, and where it computes."""
    return flat(to_json(getattr(recipe, stage))) | flat({"compute": to_json(recipe.compute)})
