"""pretrain, prune, finetune: each reads one run directory and writes another, and never edits its input."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from harp.attacks import PGD, Attack, Threat
from harp.cards import read_card
from harp.checkpoint import load_weights, save_tensors
from harp.data import ImageData, Images
from harp.evaluation import Ranks, evaluate
from harp.files import write_json, write_json_lines
from harp.pruning import Admm, Budget, attach_masks, bake_masks, budget_of, freeze_masks, masks
from harp.pruning.channels import widths
from harp.recipes import ADMM, Pruning, Recipe, Training, data_title, few_steps, in_epochs, steps_an_epoch
from harp.runs.card import make_card, name_of, of_smaller
from harp.runs.claim import Claim
from harp.runs.directory import RunDirectory
from harp.runs.inputs import changes
from harp.runs.opening import (
    build_network,
    check_weights,
    load_network,
    make_budget,
    open_dense,
    open_pruned,
    recipe_of,
    split_seed_of,
    with_validation,
)
from harp.stages.opening import open_inputs
from harp.stages.watch import SILENT, Watch
from harp.training.build import VALIDATION_STEPS, keep_rule, make_objective, method_of, sharpness_of
from harp.training.distributed import launch, make_fabric, peak_memory_bytes, place
from harp.training.loop import Course, batch_per_rank, fit, seed_of
from harp.training.progress import EpochMetrics, best_of, misses_budget

log = logging.getLogger(__name__)


Validate = Callable[[nn.Module], tuple[float, float]]


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
        return _settled(claim, watch)
    stage = _open(claim, recipe.pretrain, watch, overwrite=overwrite, accept=accept_changes)
    torch.manual_seed(seed_of(recipe.seed, "init"))
    model = build_network(recipe, stage.data)
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
        return _settled(claim, watch)
    settings = recipe.prune
    stage = _open(claim, settings, watch, overwrite=overwrite, accept=accept_changes)
    model = load_network(parent, stage.data)
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
        return _settled(claim, watch)
    stage = _open(claim, recipe.finetune, watch, overwrite=overwrite, accept=accept_changes)
    what = f"{name_of(recipe, 'finetune')}: the weights that stayed learn"
    return stage.train(load_network(parent, stage.data), recipe.finetune, what)


def claim_for_child(stage: str, recipe: Recipe, parent: Path, out: Path) -> Claim:
    """The claim of a stage that starts from a run. Raises ValueError when its recipe is about something else."""
    theirs, mine = recipe_of(parent).task, recipe.task
    for name in ("data", "image_size", "model", "mean", "std"):
        if getattr(theirs, name) != getattr(mine, name):
            raise ValueError(f"task.{name}={getattr(mine, name)!r} must be that of {parent}: {getattr(theirs, name)!r}")
    return Claim(stage, recipe, RunDirectory(out), parent=parent, split_seed=split_seed_of(parent))


def _settled(claim: Claim, watch: Watch) -> RunDirectory:
    watch.on_done(claim.settle())
    return claim.run


def _open(claim: Claim, settings: Training, watch: Watch, *, overwrite: bool, accept: bool) -> "_Stage":
    """Look at all that is asked for before other processes are started, which would only repeat what is wrong."""
    compute = claim.recipe.compute
    batch_per_rank(settings.batch_size, compute.devices * compute.num_nodes)
    fabric = make_fabric(compute)
    origin = claim.origin(overwrite=overwrite)
    opened = open_inputs(
        claim.recipe, origin, lambda: launch(fabric, compute), accept=accept, progress=watch.on_reading
    )
    data = with_validation(opened.data, claim.recipe, claim.split_seed)
    anew = origin != claim.run and bool(changes(claim.run, opened.inputs, accept=True))
    return _Stage(claim, fabric, data, opened.inputs, anew, watch)


@dataclass(frozen=True)
class _Stage:
    """One stage on its way from a claim to a card. Nothing is written before all of its input was looked at."""

    claim: Claim
    fabric: Fabric
    data: ImageData
    inputs: dict[str, Any]
    anew: bool
    watch: Watch

    def train(self, model: nn.Module, settings: Training, what: str, budget: Budget | None = None) -> RunDirectory:
        model = place(model, self.fabric.device, channels_last=self.claim.recipe.compute.channels_last)
        few, settings = few_steps(settings, len(self.data.train)), in_epochs(settings, len(self.data.train))
        if few is not None:
            log.warning("%s: %s", self.claim.stage, few)
        course, run, records = self._course(model, settings, budget), self.claim.run, []
        self.begin(f"{what}; {settings.epochs} epochs of {len(self.data.train):,} images")
        watch = self.watch
        try:
            for metrics in fit(
                model, course, self.fabric, resume=run.resume, on_step=watch.on_step, should_stop=watch.should_stop
            ):
                records.append(metrics)
                if self.fabric.is_global_zero:
                    write_json_lines(run.metrics, [asdict(record) for record in records])
                _warn_of_budget(records, settings.epochs, budget)
                watch.on_epoch(metrics)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error}. With --overwrite, or another --out, other settings start anew"
            ) from error
        if budget is not None and not masks(model):
            attach_masks(model, budget, method_of(self.claim.recipe.prune))
        return self.finish(model, records)

    def _course(self, model: nn.Module, settings: Training, budget: Budget | None) -> Course:
        recipe, data, world = self.claim.recipe, self.data, self.fabric.world_size
        assert data.validation is not None
        threat = Threat(recipe.task.norm, recipe.task.eps)
        steps = settings.epochs * steps_an_epoch(len(data.train), settings.batch_size, world) * settings.steps_a_batch
        rule = keep_rule(model, budget, settings, steps) if isinstance(settings, Pruning) and budget else None
        ranks = Ranks(self.fabric.global_rank, world, self.fabric.device)
        validate = _validator(
            data.validation, PGD(threat, steps=VALIDATION_STEPS), recipe.seed, self.watch.should_stop, ranks
        )
        return Course(
            stage=self.claim.stage,
            settings=settings,
            objective=make_objective(settings, threat),
            images=data.train,
            validate=_cut_first(validate, rule) if isinstance(rule, Admm) else validate,
            seed=recipe.seed,
            budget=budget,
            rule=rule,
            sharpness=sharpness_of(model, settings),
        )

    def begin(self, what: str) -> None:
        """Make the directory this stage's, the first rank for all."""
        if self.fabric.is_global_zero:
            self.claim.begin(self.inputs, anew=self.anew)
        self.fabric.barrier()
        self.watch.on_start(self.claim.stage, what)

    def finish(self, model: nn.Module, records: list[EpochMetrics]) -> RunDirectory:
        """Freeze and bake what was learned, write model, masks and, last, the card."""
        chosen, budget = {}, None
        if masks(model):
            freeze_masks(model)
            budget = budget_of(model)
            chosen = {name: mask.current().cpu() for name, mask in masks(model).items()}
            bake_masks(model)
        if self.fabric.is_global_zero:
            self._write(model, chosen, records, budget)
        self.fabric.barrier()
        return _settled(self.claim, self.watch)

    def _write(
        self, model: nn.Module, chosen: dict[str, Tensor], records: list[EpochMetrics], budget: Budget | None
    ) -> None:
        recipe, run, data = self.claim.recipe, self.claim.run, self.data
        card = make_card(
            recipe,
            model.cpu(),
            chosen,
            stage=self.claim.stage,
            method=recipe.prune.method if chosen else None,
            parent=self.claim.parent_from_here,
            classes=data.classes,
            validation_images=0 if data.validation is None else len(data.validation),
            best=best_of(records),
            elapsed_s=records[-1].elapsed_s if records else 0.0,
            device=self.fabric.device,
            peak_memory_bytes=peak_memory_bytes(self.fabric.device),
            budget=budget,
            preprocessing=data.preprocessing,
            shape=data.shape,
        )
        parent = None if self.claim.parent is None else RunDirectory(self.claim.parent)
        if parent is not None and parent.widths.exists():
            card |= of_smaller(read_card(parent.card).values)
            write_json(run.widths, widths(model))
        save_tensors(run.model, model.state_dict())
        if chosen:
            save_tensors(run.masks, chosen)
        write_json(run.card, card)


def _validator(images: Images, attack: Attack, seed: int, should_stop: Callable[[], bool], ranks: Ranks) -> Validate:
    def tick(done: int, total: int) -> None:
        if ranks.any_of(should_stop()):
            raise KeyboardInterrupt("stopped in the validation")

    def validate(model: nn.Module) -> tuple[float, float]:
        def accuracy(attack: Attack | None) -> float:
            found = evaluate(
                model,
                images,
                attack,
                seed=seed,
                on_progress=tick,
                should_stop=should_stop,
                ranks=ranks,
                look_for_doubts=False,
            )
            return found.accuracy

        return accuracy(None), accuracy(attack)

    return validate


def _cut_first(validate: Validate, rule: Admm) -> Validate:
    """Judge what the stage will leave, not the dense weights on their way there."""

    def validate_cut(model: nn.Module) -> tuple[float, float]:
        with rule.cut():
            return validate(model)

    return validate_cut


def _warn_of_budget(records: list[EpochMetrics], epochs: int, budget: Budget | None) -> None:
    """Say at half time, and at the end, that learning does not meet the budget; the exact cut comes all the same."""
    if budget is None or records[-1].met_budget or not records[-1].layers:  # ADMM is dense until it is cut
        return
    density = f"density {records[-1].density:.3%} after {len(records)} of {epochs} epochs, and the budget is {budget.keep:.3%}"
    if len(records) == epochs and not any(record.met_budget for record in records):
        log.warning("%s: no epoch met it, so the masks are cut to it without learning from the cut", density)
    elif len(records) == (epochs + 1) // 2 and misses_budget(records, epochs, budget.keep):
        log.warning("%s: at this pace learning will not meet it; raise gamma_step, or take rule='descent'", density)
