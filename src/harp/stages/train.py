"""pretrain, prune, finetune: each reads one run directory and writes another, and never edits its input."""

from dataclasses import replace
from pathlib import Path

import torch

from harp.checkpoint import load_weights
from harp.pruning import attach_masks
from harp.recipes import ADMM, Recipe, data_title
from harp.runs.card import name_of
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory
from harp.runs.opening import (
    build_network,
    check_weights,
    load_network,
    make_budget,
    open_dense,
    open_pruned,
    recipe_of,
    split_seed_of,
)
from harp.stages.refusals import note_refusals
from harp.stages.stage import open_stage, settled
from harp.stages.watch import SILENT, Watch
from harp.training.build import method_of
from harp.training.loop import seed_of


def pretrain(
    recipe: Recipe,
    out: Path,
    *,
    weights: Path | None = None,
    weights_key: str | None = None,
    train_weights: bool = False,
    overwrite: bool = False,
    accept_changes: bool = False,
    watch: Watch = SILENT,
) -> RunDirectory:
    """Train the recipe's network robustly from a seeded start, or take the ``weights`` of an existing checkpoint.

    Of a file with several networks ``weights_key`` names one. With ``train_weights`` training starts from them, with a
    new head where the checkpoint has other classes.
    """
    check_weights(weights, recipe, weights_key, train=train_weights)
    claim = Claim(
        *("pretrain", recipe, RunDirectory(out)),
        weights=weights,
        weights_key=weights_key,
        train_weights=train_weights,
        split_seed=recipe.seed,
    )
    if claim.is_done(overwrite=overwrite):
        return settled(claim, watch)
    stage = open_stage(claim, recipe.pretrain, watch, overwrite=overwrite, accept=accept_changes)
    torch.manual_seed(seed_of(recipe.seed, "init"))
    model = build_network(recipe, stage.data)
    note_refusals(stage, model, channels=True)
    what = f"{recipe.task.model} on {data_title(recipe.task.data, recipe.task.root)}"
    if weights is None:
        return stage.train(model, recipe.pretrain, what)
    load_weights(model, weights, key=weights_key, new_head=train_weights)
    source = f"the weights of {weights}{f', {weights_key}' if weights_key else ''}"
    if train_weights:
        return stage.train(model, recipe.pretrain, f"{what}, from {source}")
    stage.begin(f"{recipe.task.model} with {source}")
    return stage.finish(model, [])


def prune(
    recipe: Recipe,
    parent: Path,
    out: Path,
    *,
    overwrite: bool = False,
    accept_changes: bool = False,
    watch: Watch = SILENT,
) -> RunDirectory:
    """Learn masks of exactly the recipe's budget on the parent's weights, which rest; ADMM moves them to where it cuts."""
    open_dense(parent)
    claim = claim_for_child("prune", recipe, parent, out)
    if claim.is_done(overwrite=overwrite):
        return settled(claim, watch)
    settings = recipe.prune
    stage = open_stage(claim, settings, watch, overwrite=overwrite, accept=accept_changes)
    model = load_network(parent, stage.data)
    note_refusals(stage, model, channels=False)
    torch.manual_seed(seed_of(recipe.seed, "scores"))
    budget = make_budget(model, settings, stage.data)
    what = f"{name_of(recipe, 'prune')}: {budget.limit:,} of {budget.total:,.0f} {budget.unit} stay"
    if settings.method == ADMM:  # the masks come when the weights are where they should be
        return stage.train(model, settings, what, budget)
    method = method_of(settings)
    attach_masks(model, budget, method)
    if method.learn:
        return stage.train(model, settings, what, budget)
    stage.begin(what)
    return stage.finish(model, [])


def finetune(
    recipe: Recipe,
    parent: Path,
    out: Path,
    *,
    overwrite: bool = False,
    accept_changes: bool = False,
    watch: Watch = SILENT,
) -> RunDirectory:
    """Train the weights that survived; the masks stay as they are, and method and budget are the parent's."""
    open_pruned(parent)
    recipe = replace(recipe, prune=recipe_of(parent).prune)
    claim = claim_for_child("finetune", recipe, parent, out)
    if claim.is_done(overwrite=overwrite):
        return settled(claim, watch)
    stage = open_stage(claim, recipe.finetune, watch, overwrite=overwrite, accept=accept_changes)
    what = f"{name_of(recipe, 'finetune')}: the weights that stayed learn"
    return stage.train(load_network(parent, stage.data), recipe.finetune, what)


def claim_for_child(stage: str, recipe: Recipe, parent: Path, out: Path) -> Claim:
    """The claim of a stage that starts from a run. Raises ValueError when its recipe is about something else."""
    theirs, mine = recipe_of(parent).task, recipe.task
    for name in ("data", "image_size", "model", "mean", "std"):
        if getattr(theirs, name) != getattr(mine, name):
            raise ValueError(f"task.{name}={getattr(mine, name)!r} must be that of {parent}: {getattr(theirs, name)!r}")
    return Claim(stage, recipe, RunDirectory(out), parent=parent, split_seed=split_seed_of(parent))
