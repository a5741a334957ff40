"""The whole job: one robust parent, then every method pruned, finetuned and evaluated with the same number of passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harp.cost.passes import equalised
from harp.recipes import LEARN_WEIGHTS, PRESETS, S2AP_HOSTS, Recipe, from_parent, normal_spelling, respelled
from harp.runs.claim import OtherRun, claim_for_child, delete_run
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.opening import open_dense, open_run
from harp.stages.attacks import attacks_of
from harp.stages.evaluate import evaluate_run, is_evaluated
from harp.stages.refusals import check_budget
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import SILENT, Watch

MASKS, FINAL = "masks", "final"
"""The two runs of a cell, in its folder."""


def run(
    recipe: Recipe | str,
    out: Path | str,
    *,
    methods: Sequence[str] = ("harp",),
    keep: float | None = None,
    overwrite: bool = False,
    watch: Watch = SILENT,
) -> list[Path]:
    """The whole job, as `harp run` does it: a robust parent, then each method pruned, finetuned and evaluated.

    ``recipe`` is a value or the name of a preset; ``keep``, if given, takes the place of its own. Returns the run
    directories of the finished networks, the dense one first: :func:`harp.load` opens each. Interrupted, or called again
    alike, it goes on where it was. ``watch`` is told of stages, steps, epochs and results, and can stop the work.
    """
    if isinstance(recipe, str):
        if recipe not in PRESETS:
            raise ValueError(f"recipe={recipe!r} is not a preset; choose one of {', '.join(PRESETS)}, or give a Recipe")
        recipe = PRESETS[recipe][1]
    if keep is not None:
        recipe = replace(recipe, prune=replace(recipe.prune, keep=keep))
    return run_all(recipe, methods, Path(out), overwrite=overwrite, watch=watch)


def run_all(
    recipe: Recipe,
    methods: Sequence[str],
    out: Path,
    *,
    overwrite: bool = False,
    accept_changes: bool = False,
    watch: Watch = SILENT,
) -> list[Path]:
    """Run all stages for each method from one parent; the finished networks, dense first. Interrupted, it goes on.

    ``overwrite`` replaces runs of other settings; what is finished with the same ones stays.
    """

    once = _Once(overwrite, _each_note_once(watch), accept_changes)
    # What a later stage would refuse should not be found out when the parent is trained.
    shared = on_its_data(recipe)
    recipes = {spelling: recipe_for(spelling, shared) for spelling in map(normal_spelling, methods)}
    attacks_of(recipe.test, recipe)
    if overwrite or not RunDirectory(out / "dense").finished:  # reading the images may take a while
        check_budget(recipe, open_data(recipe))
    parent = once(pretrain, recipe, out / "dense")
    finals = [parent]
    for method, mine in recipes.items():
        masked = once(prune, mine, parent, out / f"{method}-masks")
        finals.append(once(finetune, mine, masked, out / method))
    for final in finals:
        evaluate_run(final, recipe.test, recipe.compute, accept_changes=accept_changes, watch=watch)
    return finals


def run_cell(
    recipe: Recipe, parent: Path, out: Path, *, test: bool = True, overwrite: bool = False, watch: Watch = SILENT
) -> Path:
    """Prune a dense run into ``out/masks``, finetune that into ``out/final``, and evaluate it. Interrupted, it continues.

    Without ``test`` it is not evaluated, and the test set is not looked at.

    ``overwrite`` replaces runs of other settings, and runs a cell again that is finished to the last evaluation.
    """
    once = _Once(overwrite, watch)
    attacks_of(recipe.test, recipe)
    if overwrite:
        _clear(recipe, parent, out)
    masked = once(prune, recipe, parent, out / MASKS)
    final = once(finetune, recipe, masked, out / FINAL)
    if test:
        evaluate_run(final, recipe.test, recipe.compute, watch=watch)
    return final


def cell_is_done(recipe: Recipe, parent: Path, out: Path, tests: int) -> bool:
    """Whether :func:`run_cell` would find nothing to do, of ``tests`` images that the test set has; changes nothing.

    Raises OtherRun when the directory holds runs of other settings.
    """
    return is_trained(recipe, parent, out) and is_evaluated(out / FINAL, recipe.test, tests)


def is_trained(recipe: Recipe, parent: Path, out: Path) -> bool:
    """Whether both runs of a cell are finished, evaluated or not. Raises OtherRun as :func:`cell_is_done` does."""
    if not claim_for_child("prune", recipe, open_run(parent), out / MASKS).is_done():
        return False
    return claim_for_child("finetune", recipe, open_run(out / MASKS), out / FINAL).is_done()


def _clear(recipe: Recipe, parent: Path, out: Path) -> None:
    """Delete the two runs of a finished cell. Raises what its stages would, before anything is deleted."""
    data = open_data(recipe, split_seed=open_dense(parent).split_seed)
    check_budget(recipe, data)
    try:
        done = cell_is_done(recipe, parent, out, len(data.test))
    except OtherRun:  # the stage that finds it replaces it
        return
    if done:
        for name in (FINAL, MASKS):
            delete_run(RunDirectory(out / name))


@dataclass(frozen=True)
class _Once:
    """Calls a stage; a run of other settings in its place goes only if that is allowed."""

    overwrite: bool
    watch: Watch
    accept_changes: bool = False

    def __call__(self, stage: Callable[..., RunDirectory], *arguments: Any) -> Path:
        how = {"accept_changes": self.accept_changes, "watch": self.watch}
        try:
            return stage(*arguments, **how).path
        except OtherRun:
            if not self.overwrite:
                raise
            return stage(*arguments, overwrite=True, **how).path


def _each_note_once(watch: Watch) -> Watch:
    """Networks of one architecture have the same said of them, method by method."""
    said = set[str]()

    def note(text: str) -> None:
        if text not in said:
            said.add(text)
            watch.on_note(text)

    return replace(watch, on_note=note)


def on_its_data(recipe: Recipe) -> Recipe:
    """The recipe with pruning and finetuning as long as they will be on its images: methods share passes, not steps."""
    if not (recipe.prune.min_steps or recipe.finetune.min_steps):
        return recipe  # without reading the images
    return from_parent(recipe, len(open_data(recipe).train))


def recipe_for(spelling: str, recipe: Recipe) -> Recipe:
    """The recipe with this method and as many passes over the images as any other.

    ``harp+awp`` has exactly these plug-ins; a bare method has those of the recipe, where they apply.
    """
    if "+" in spelling:
        return equalised(respelled(recipe, spelling), recipe)
    bare = respelled(recipe, spelling).prune
    rho = recipe.prune.s2ap_rho if bare.method in S2AP_HOSTS else 0.0
    gamma = recipe.prune.awp_gamma if bare.method in LEARN_WEIGHTS else 0.0
    return equalised(replace(recipe, prune=replace(bare, s2ap_rho=rho, awp_gamma=gamma)), recipe)
