"""pretrain, prune, finetune: each reads one run directory and writes another, and never edits its input."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from .attacks import PGD, Attack, Threat
from .cards import make_card
from .checkpoint import RunDirectory, load_weights, save_tensors, write_json, write_json_lines
from .claims import Claim, sweep
from .data import ImageData, Images
from .devices import launch
from .evaluation import evaluate
from .objectives import Objective, mart, n_fgsm, natural, pgd_at, trades
from .progress import misses_budget
from .pruning import (
    METHODS,
    Budget,
    Descent,
    Penalty,
    Ramp,
    attach_masks,
    bake_masks,
    freeze_masks,
    masks,
    weight_budget,
)
from .recipes import Pruning, Recipe, Training
from .runs import build_network, load_network, open_data, open_run, recipe_of, split_seed_of
from .training import (
    Course,
    EpochMetrics,
    KeepRule,
    StepProgress,
    batch_per_rank,
    best_of,
    fit,
    seed_of,
    steps_an_epoch,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """How a caller follows a stage and stops it."""

    on_start: Callable[[str, str], None] = lambda stage, what: None
    on_step: Callable[[StepProgress], None] = lambda progress: None
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None
    on_images: Callable[[str, int, int], None] = lambda attack, done, images: None
    should_stop: Callable[[], bool] = lambda: False


SILENT = Watch()


def pretrain(
    recipe: Recipe, out: Path, *, weights: Path | None = None, overwrite: bool = False, watch: Watch = SILENT
) -> RunDirectory:
    """Train the recipe's network robustly from a seeded start, or take the ``weights`` of an existing checkpoint."""
    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"weights={weights} is not a file; name a checkpoint of {recipe.task.model}")
    stage = _Stage(Claim("pretrain", recipe, RunDirectory(out), weights=weights, split_seed=recipe.seed), watch)
    if stage.claim.is_done(overwrite=overwrite):
        return stage.already_done()
    stage.open()
    torch.manual_seed(seed_of(recipe.seed, "init"))
    model = build_network(recipe, stage.data)
    if weights is None:
        return stage.train(model, recipe.pretrain)
    load_weights(model, weights)
    stage.begin(f"take the weights of {weights}")
    return stage.finish(model, [])


def prune(recipe: Recipe, parent: Path, out: Path, *, overwrite: bool = False, watch: Watch = SILENT) -> RunDirectory:
    """Learn masks of exactly the recipe's budget on the parent's weights, which rest."""
    if open_run(parent).masks.exists():
        raise ValueError(f"{parent} is pruned already; prune the dense run that it came from")
    stage = _Stage(_child("prune", recipe, parent, out), watch)
    if stage.claim.is_done(overwrite=overwrite):
        return stage.already_done()
    stage.open()
    model = load_network(parent, stage.data)
    settings = recipe.prune
    torch.manual_seed(seed_of(recipe.seed, "scores"))
    budget = weight_budget(model, settings.keep, exclude=settings.exclude)
    attach_masks(model, budget, METHODS[settings.method])
    return stage.train(model, settings, budget)


def finetune(
    recipe: Recipe, parent: Path, out: Path, *, overwrite: bool = False, watch: Watch = SILENT
) -> RunDirectory:
    """Train the weights that survived; the masks stay as they are."""
    if not open_run(parent).masks.exists():
        raise ValueError(f"{parent} has no masks to keep; `harp prune {parent}` makes a pruned run to finetune")
    # Method and budget are the parent's, whatever the recipe says: the card must not tell otherwise.
    recipe = replace(recipe, prune=recipe_of(parent).prune)
    stage = _Stage(_child("finetune", recipe, parent, out), watch)
    if stage.claim.is_done(overwrite=overwrite):
        return stage.already_done()
    stage.open()
    return stage.train(load_network(parent, stage.data), recipe.finetune)


def make_objective(settings: Training, threat: Threat) -> Objective:
    """The robust loss that a stage's settings name."""
    attack = PGD(threat, steps=settings.attack_steps, step_size=settings.attack_step_size, loss=settings.attack_loss)
    match settings.objective:
        case "natural":
            return natural()
        case "pgd-at":
            return pgd_at(attack)
        case "n-fgsm":
            return n_fgsm(threat)
        case "trades":
            return trades(threat, beta=settings.beta, steps=settings.attack_steps, step_size=settings.attack_step_size)
        case "mart":
            return mart(attack, beta=settings.beta)


def keep_rule(model: nn.Module, budget: Budget, settings: Pruning, steps: int) -> KeepRule | None:
    """How the learned keep fractions of this model come down to the budget; None when none is learned."""
    if all(mask.logit is None for mask in masks(model).values()):
        return None
    return (
        Penalty(model, budget, Ramp(settings.gamma_step)) if settings.rule == "ramp" else Descent(model, budget, steps)
    )


def _child(stage: str, recipe: Recipe, parent: Path, out: Path) -> Claim:
    theirs, mine = recipe_of(parent).task, recipe.task
    for name in ("data", "image_size", "model", "mean", "std"):
        if getattr(theirs, name) != getattr(mine, name):
            raise ValueError(f"task.{name}={getattr(mine, name)!r} must be that of {parent}: {getattr(theirs, name)!r}")
    return Claim(stage, recipe, RunDirectory(out), parent=parent, split_seed=split_seed_of(parent))


@dataclass
class _Stage:
    """One stage on its way from a claimed directory to a card. Nothing is written before all of its input is sound."""

    claim: Claim
    watch: Watch

    def already_done(self) -> RunDirectory:
        """The run that was there. A process killed after its last word may have left what was meant to go."""
        shutil.rmtree(self.claim.run.resume.parent, ignore_errors=True)
        sweep(self.claim.run)
        return self.claim.run

    def open(self) -> None:
        """The devices and the data, before the random numbers of the network are drawn."""
        self.fabric, self.data

    @cached_property
    def fabric(self) -> Fabric:
        return launch(self.claim.recipe.compute)

    @cached_property
    def data(self) -> ImageData:
        return open_data(self.claim.recipe, split_seed=self.claim.split_seed)

    def begin(self, what: str) -> None:
        """Make the directory ours, the first rank for all."""
        if self.fabric.is_global_zero:
            self.claim.begin()
        self.fabric.barrier()
        self.watch.on_start(self.claim.stage, what)
