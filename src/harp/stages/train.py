"""pretrain, prune, finetune: each reads one run directory and writes another, and never edits its input."""

from dataclasses import replace
from pathlib import Path

import torch

from harp.checkpoint import load_weights
from harp.pruning import attach_masks
from harp.recipes import ADMM, Recipe, data_title, name_of
from harp.runs.budget import make_budget
from harp.runs.claim import Claim, claim_for_child
from harp.runs.directory import RunDirectory
from harp.runs.network import build_network, load_network
from harp.runs.opening import open_dense, open_pruned
from harp.stages.finishing import finish, settled
from harp.stages.learning import Learned, begin, learn
from harp.stages.opening import open_stage
from harp.stages.refusals import note_refusals
from harp.stages.watch import SILENT, Watch
from harp.training.build import method_of
from harp.training.seeding import seed_of


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
        return finish(stage, learn(stage, model, recipe.pretrain, what))
    load_weights(model, weights, key=weights_key, new_head=train_weights)
    source = f"the weights of {weights}{f', {weights_key}' if weights_key else ''}"
    if train_weights:
        return finish(stage, learn(stage, model, recipe.pretrain, f"{what}, from {source}"))
    begin(stage, f"{recipe.task.model} with {source}")
    return finish(stage, Learned(model))


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
    start = open_dense(parent)
    claim = claim_for_child("prune", recipe, start, out)
    if claim.is_done(overwrite=overwrite):
        return settled(claim, watch)
    settings = recipe.prune
    stage = open_stage(claim, settings, watch, overwrite=overwrite, accept=accept_changes)
    model = load_network(start, stage.data)
    note_refusals(stage, model, channels=False)
    torch.manual_seed(seed_of(recipe.seed, "scores"))
    budget = make_budget(model, settings, stage.data)
    what = f"{name_of(recipe, 'prune')}: {budget.limit:,} of {budget.total:,.0f} {budget.unit} stay"
    if settings.method == ADMM:  # the masks come when the weights are where they should be
        return finish(stage, learn(stage, model, settings, what, budget))
    method = method_of(settings)
    attach_masks(model, budget, method)
    if method.learn:
        return finish(stage, learn(stage, model, settings, what, budget))
    begin(stage, what)
    return finish(stage, Learned(model))


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
    start = open_pruned(parent)
    recipe = replace(recipe, prune=start.recipe.prune)
    claim = claim_for_child("finetune", recipe, start, out)
    if claim.is_done(overwrite=overwrite):
        return settled(claim, watch)
    stage = open_stage(claim, recipe.finetune, watch, overwrite=overwrite, accept=accept_changes)
    what = f"{name_of(recipe, 'finetune')}: the weights that stayed learn"
    return finish(stage, learn(stage, load_network(start, stage.data), recipe.finetune, what))


def check_weights(weights: Path | None, recipe: Recipe, key: str | None = None, *, train: bool = False) -> None:
    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"weights={weights} is not a file; name a checkpoint of {recipe.task.model}")
    if train and weights is None:
        raise ValueError("train_weights needs weights to start from; name a checkpoint (--weights)")
    if key is not None and weights is None:
        raise ValueError(f"weights_key={key!r} names a network in a checkpoint; name the file, too (--weights)")
