"""pretrain, prune, finetune: each reads one run directory and writes another, and never edits its input."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from .attacks import PGD, Attack, Threat
from .cards import make_card
from .checkpoint import RunDirectory, load_weights, read_json, save_tensors, write_json, write_json_lines
from .data import ImageData, Images
from .devices import make_fabric
from .evaluation import evaluate
from .objectives import Objective, mart, n_fgsm, natural, pgd_at, trades
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
from .recipes import Pruning, Recipe, Training, to_json
from .runs import build_network, load_network, open_data, open_run
from .training import Course, EpochMetrics, KeepRule, StepProgress, best_of, fit, seed_of


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
    stage = _Stage("pretrain", recipe, RunDirectory(out), parent=None, weights=weights)
    if stage.claim(overwrite=overwrite):
        return stage.run
    fabric, data = _launch(recipe), open_data(recipe)
    torch.manual_seed(seed_of(recipe.seed, "init"))
    model = build_network(recipe, data)
    if weights is not None:
        return stage.finish(load_weights(model, weights), data, [], time.time(), fabric)
    return stage.train(model, recipe.pretrain, data, fabric, watch)


def prune(recipe: Recipe, parent: Path, out: Path, *, overwrite: bool = False, watch: Watch = SILENT) -> RunDirectory:
    """Learn masks of exactly the recipe's budget on the parent's weights, which rest."""
    open_run(parent)
    stage = _Stage("prune", recipe, RunDirectory(out), parent=parent)
    if stage.claim(overwrite=overwrite):
        return stage.run
    fabric, data = _launch(recipe), open_data(recipe)
    model = load_network(parent, data)
    if masks(model):
        raise ValueError(f"{parent} is pruned already; prune the dense run that it came from")
    settings = recipe.prune
    torch.manual_seed(seed_of(recipe.seed, "scores"))
    budget = weight_budget(model, settings.keep, exclude=settings.exclude)
    attach_masks(model, budget, METHODS[settings.method])
    return stage.train(model, settings, data, fabric, watch, budget)


def finetune(
    recipe: Recipe, parent: Path, out: Path, *, overwrite: bool = False, watch: Watch = SILENT
) -> RunDirectory:
    """Train the weights that survived; the masks stay as they are."""
    if not open_run(parent).masks.exists():
        raise ValueError(f"{parent} has no masks to keep; `harp prune {parent}` makes a pruned run to finetune")
    stage = _Stage("finetune", recipe, RunDirectory(out), parent=parent)
    if stage.claim(overwrite=overwrite):
        return stage.run
    fabric, data = _launch(recipe), open_data(recipe)
    return stage.train(load_network(parent, data), recipe.finetune, data, fabric, watch)


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


def _launch(recipe: Recipe) -> Fabric:
    fabric = make_fabric(recipe.compute)
    fabric.launch()
    return fabric


@dataclass(frozen=True)
class _Stage:
    """One stage on its way from a claimed directory to a card."""

    name: str
    recipe: Recipe
    run: RunDirectory
    parent: Path | None
    weights: Path | None = None

    def claim(self, *, overwrite: bool) -> bool:
        """Write the recipe into the run directory; True if the very same run is finished there already.

        Raises ValueError when the directory holds another run, or files that are not a run's.
        """
        path, mine = self.run.path, self._record()
        if path.exists() and not path.is_dir():
            raise ValueError(f"out={path} is a file; name a directory")
        if overwrite and self.run.recipe.exists():
            shutil.rmtree(path)
        if not self.run.recipe.exists():
            if path.exists() and any(path.iterdir()):
                raise ValueError(f"out={path} holds files that are not a run; name an empty or new directory")
            write_json(self.run.recipe, mine)
            return False
        theirs = read_json(self.run.recipe)
        different = _differences(theirs, mine)
        if different:
            raise ValueError(
                f"out={path} holds another run, which differs in {'; '.join(different)}; choose another directory, or "
                "--overwrite to delete that run"
            )
        return self.run.finished

    def train(
        self,
        model: nn.Module,
        settings: Training,
        data: ImageData,
        fabric: Fabric,
        watch: Watch,
        budget: Budget | None = None,
    ) -> RunDirectory:
        started = time.time()
        assert data.validation is not None
        layout = torch.channels_last if self.recipe.compute.channels_last else torch.contiguous_format
        model = model.to(fabric.device, memory_format=layout)
        threat = Threat(self.recipe.task.norm, self.recipe.task.eps)
        steps = settings.epochs * -(-len(data.train) // settings.batch_size)
        course = Course(
            stage=self.name,
            settings=settings,
            objective=make_objective(settings, threat),
            images=data.train,
            validate=_validator(data.validation, PGD(threat, steps=10), seed=self.recipe.seed),
            seed=self.recipe.seed,
            budget=budget,
            rule=keep_rule(model, budget, settings, steps) if isinstance(settings, Pruning) and budget else None,
        )
        watch.on_start(self.name, f"{self.recipe.task.data}, {self.recipe.task.model}, {len(data.train):,} images")
        records = []
        for metrics in fit(
            model, course, fabric, resume=self.run.resume, on_step=watch.on_step, should_stop=watch.should_stop
        ):
            records.append(metrics)
            if fabric.is_global_zero:
                write_json_lines(self.run.metrics, [asdict(record) for record in records])
            watch.on_epoch(metrics)
        return self.finish(model, data, records, started, fabric)

    def finish(
        self, model: nn.Module, data: ImageData, records: list[EpochMetrics], started: float, fabric: Fabric
    ) -> RunDirectory:
        """Freeze and bake what was learned, write model, masks and, last, the card."""
        chosen = {}
        if masks(model):
            freeze_masks(model)
            chosen = {name: mask.current().cpu() for name, mask in masks(model).items()}
            bake_masks(model)
        if not fabric.is_global_zero:
            return self.run
        method = self.recipe.prune.method if chosen else None
        card = make_card(
            self.recipe,
            model,
            chosen,
            stage=self.name,
            method=method,
            parent=None if self.parent is None else os.path.relpath(self.parent, self.run.path),
            classes=data.classes,
            validation_images=0 if data.validation is None else len(data.validation),
            best=best_of(records),
            elapsed_s=time.time() - started,
        )
        save_tensors(self.run.model, model.state_dict())
        if chosen:
            save_tensors(self.run.masks, chosen)
        write_json(self.run.card, card)
        shutil.rmtree(self.run.resume.parent, ignore_errors=True)
        return self.run

    def _record(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "parent": None if self.parent is None else os.path.relpath(self.parent, self.run.path),
            "weights": None if self.weights is None else str(self.weights),
            "recipe": to_json(self.recipe),
        }


def keep_rule(model: nn.Module, budget: Budget, settings: Pruning, steps: int) -> KeepRule | None:
    """How the learned keep fractions of this model come down to the budget; None when none is learned."""
    if all(mask.logit is None for mask in masks(model).values()):
        return None
    return (
        Penalty(model, budget, Ramp(settings.gamma_step)) if settings.rule == "ramp" else Descent(model, budget, steps)
    )


def _validator(images: Images, attack: Attack, *, seed: int) -> Callable[[nn.Module], tuple[float, float]]:
    def validate(model: nn.Module) -> tuple[float, float]:
        clean = evaluate(model, images, seed=seed)
        return clean.accuracy, evaluate(model, images, attack, seed=seed).accuracy

    return validate


def _differences(theirs: Any, mine: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, as ``"prune.keep (0.01 there, 0.02 here)"``."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        keys = list(dict.fromkeys([*theirs, *mine]))
        return [d for k in keys for d in _differences(theirs.get(k), mine.get(k), f"{where}.{k}".lstrip("."))]
    return [] if theirs == mine else [f"{where} ({theirs!r} there, {mine!r} here)"]
