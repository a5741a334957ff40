"""The remaining work of a comparison, as commands that any engine can run."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harp.compare.plan import Cell, ComparePlan
from harp.data import ImageData
from harp.importing import VARIABLE
from harp.recipes import PRESETS, Recipe, changes, flags, flat, how_words, to_json
from harp.report.compare import DENSE, CompareResults, Entry, read_compare_results
from harp.report.results import Test
from harp.runs.claim import Claim, OtherRun
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.opening import open_run
from harp.stages.attacks import attacks_of, how_of
from harp.stages.evaluate import is_evaluated
from harp.stages.pipeline import cell_is_done, is_trained
from harp.stages.refusals import check_budget


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
    trials: bool = False
    """Whether ``rest`` are trials, among which settings are to be chosen; cells are counted among them."""


def outstanding(plan: ComparePlan, *, overwrite: bool = False) -> Todo:
    """What a look at the directories leaves to do; changes nothing. Of a plan that tunes, the trials, before it has choices.

    Raises ValueError for parents that are none, for budgets that cannot be met, and, unless they may be overwritten,
    for runs of other settings.
    """
    for parent in plan.parents:
        if open_run(parent).pruned:
            raise ValueError(f"parents names {parent}, which is pruned already; name the dense run that it came from")
    data = _open_as_parents(plan)
    tests = len(data.test)
    for recipe in {c.key[1:]: c.recipe for c in plan.trials or plan.cells}.values():
        check_budget(recipe, data)
    first = tuple(_trainings(plan, overwrite))
    if plan.tune and not plan.choices:
        trials = [cell for cell in plan.trials if not _is_trained(cell, overwrite)]
        rest = [_job_of(cell, plan, overwrite, test=False) for cell in trials]
        return Todo(first, tuple(rest), len(plan.trials) - len(trials), len(plan.trials), trials=True)
    cells = [cell for cell in plan.cells if not _is_done(cell, tests, overwrite)]
    rest = [*_evaluations(plan, tests), *(_job_of(cell, plan, overwrite) for cell in cells)]
    return Todo(first, tuple(rest), len(plan.cells) - len(cells), len(plan.cells))


def finished(plan: ComparePlan) -> CompareResults:
    """The cells and parents that are done, read back."""
    tests, recipe = len(_open_as_parents(plan).test), plan.recipe
    made = [Entry(*c.key, c.recipe.seed, c.passes, c.final, dict(c.point)) for c in plan.cells if _is_sound(c, tests)]
    dense = [
        Entry(DENSE, 1.0, "weight", seed, 0, parent)
        for parent, seed in sorted(plan.dense.items(), key=lambda item: item[1])
        if RunDirectory(parent).finished and is_evaluated(parent, recipe.test, tests)
    ]
    attack = (*attacks_of(recipe.test, recipe), None)[1]
    test = (
        None if attack is None else Test(attack.name, attack.threat.norm, attack.threat.eps, how_words(*how_of(attack)))
    )
    images = recipe.test.images_of(tests)
    return read_compare_results(
        [*dense, *made], test, images=images, baseline=plan.reference, seeds=plan.seeds, columns=plan.columns
    )


def _open_as_parents(plan: ComparePlan) -> ImageData:
    """The images without the files that the parents left out, where there is one."""
    parents = (RunDirectory(parent) for parent in plan.dense)
    return open_data(plan.recipe, run=next((run for run in parents if run.inputs.exists()), None))


def _is_sound(cell: Cell, tests: int) -> bool:
    """Whether a cell is done; one that failed may have left anything."""
    try:
        return _is_done(cell, tests, overwrite=True)
    except (ValueError, OSError):
        return False


def _is_done(cell: Cell, tests: int, overwrite: bool) -> bool:
    return _if_ours(partial(cell_is_done, cell.recipe, cell.parent, cell.out, tests), cell, overwrite)


def _is_trained(cell: Cell, overwrite: bool) -> bool:
    return _if_ours(partial(is_trained, cell.recipe, cell.parent, cell.out), cell, overwrite)


def _if_ours(is_done: Callable[[], bool], cell: Cell, overwrite: bool) -> bool:
    if not RunDirectory(cell.parent).finished:
        return False
    try:
        return is_done()
    except OtherRun:
        if not overwrite:
            raise
        return False


def _trainings(plan: ComparePlan, overwrite: bool) -> Iterator[Job]:
    if plan.parents:
        return
    start = PRESETS[plan.preset][1]
    for parent, seed in plan.dense.items():
        recipe = plan.recipe_of_parent(seed)
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
        yield Job(parent.name, ("pretrain", plan.preset, *words, *out), _log(plan, parent.name))


def _evaluations(plan: ComparePlan, tests: int) -> Iterator[Job]:
    """The parents are evaluated like the cells, so that the cost of pruning can be seen."""
    for parent, seed in plan.dense.items():
        if RunDirectory(parent).finished and is_evaluated(parent, plan.recipe.test, tests):
            continue
        theirs = plan.recipe_of_parent(seed)
        mine = replace(theirs, test=plan.recipe.test, compute=plan.recipe.compute)
        words = ("evaluate", str(parent), *flags(changes(_of_evaluate(theirs), _of_evaluate(mine))))
        name = parent.name if parent.parent == plan.out else f"dense-s{seed}"
        yield Job(f"{name}, evaluated", words, _log(plan, f"{name}-evaluated"), needs=parent)


def _job_of(cell: Cell, plan: ComparePlan, overwrite: bool, *, test: bool = True) -> Job:
    theirs = plan.recipe_of_parent(cell.recipe.seed)
    words = flags(changes(flat(to_json(theirs)), flat(to_json(cell.recipe))))
    out = ("--out", str(cell.out), *(("--overwrite",) if overwrite else ()))
    words = ("cell", str(cell.parent), *words, *out, *(() if test else ("--no-evaluate",)))
    return Job(cell.name, words, _log(plan, cell.name), cell, needs=cell.parent)


def _log(plan: ComparePlan, name: str) -> Path:
    return plan.out / "logs" / f"{name}.log"


def _of_pretrain(recipe: Recipe) -> Mapping[str, Any]:
    return _of_stage(recipe, "pretrain") | flat({"task": to_json(recipe.task)}) | {"seed": recipe.seed}


def _of_evaluate(recipe: Recipe) -> Mapping[str, Any]:
    return _of_stage(recipe, "test")


def _of_stage(recipe: Recipe, stage: str) -> dict[str, Any]:
    """The settings of a stage's command: its own without a prefix, and where it computes."""
    return flat(to_json(getattr(recipe, stage))) | flat({"compute": to_json(recipe.compute)})
