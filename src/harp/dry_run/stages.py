"""What a stage would take on this network, data and device, from a few timed steps. Nothing is written."""

import logging
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harp.attacks import attacking
from harp.cost.passes import learns, stage_passes
from harp.cost.workload import Workload, workload
from harp.data import ImageData
from harp.dry_run.clock import UNTRAINED, Clock
from harp.evaluation import BATCH_SIZE, Ranks
from harp.pruning import attach_masks, budget_of
from harp.pruning.channels import every_product_seen
from harp.recipes import ADMM, Pruning, Recipe, Training, in_epochs
from harp.runs.budget import make_budget
from harp.runs.images import open_data
from harp.runs.network import build_network, load_network
from harp.runs.opening import open_dense, open_pruned
from harp.stages.attacked import attacked_in
from harp.stages.train import check_weights
from harp.stages.weight_step import weight_step_in
from harp.training.build import make_course, method_of, validation_attack
from harp.training.distributed import alone, batch_per_rank, launch, make_fabric, peak_memory_bytes, place
from harp.training.loop import train_step
from harp.training.optimizer import make_optimizer

log = logging.getLogger(__name__)

_UNTIMED, _TIMED = 1, 3
"""Batches that warm up, and batches whose median counts."""
_ENOUGH_S = 60.0
"""No further batch is begun after this long."""


@dataclass(frozen=True)
class Estimate:
    """``batch_s`` is for one device's share of a batch, with every optimiser step on it, and includes reading it.

    ``validation_s`` is for the two evaluations at the end of every epoch.
    """

    stage: str
    work: Workload
    batch_s: float
    validation_s: float
    devices: int
    peak_memory_bytes: int | None

    @property
    def hours(self) -> float:
        return (self.work.batches * self.batch_s + self.work.epochs * self.validation_s) / 3600


def dry_run_pretrain(recipe: Recipe, weights: Path | None = None) -> Estimate | None:
    """None for the weights of a checkpoint, which are taken at once."""
    check_weights(weights, recipe)
    if weights is not None:
        return None
    data = open_data(recipe)
    return dry_run_stage("pretrain", recipe, recipe.pretrain, build_network(recipe, data), data)


def dry_run_prune(recipe: Recipe, parent: Path) -> Estimate | None:
    """None for a method that learns nothing there, and is done at once."""
    run = open_dense(parent)
    data = open_data(recipe, split_seed=run.split_seed, run=run.directory)
    return dry_run_prune_of(recipe, load_network(run, data), data)


def dry_run_finetune(recipe: Recipe, parent: Path) -> Estimate:
    run = open_pruned(parent)
    data = open_data(recipe, split_seed=run.split_seed, run=run.directory)
    return dry_run_stage("finetune", recipe, recipe.finetune, load_network(run, data), data)


def dry_run_prune_of(recipe: Recipe, model: nn.Module, data: ImageData) -> Estimate | None:
    """The prune stage of a dense network; None for a method that learns nothing there."""
    settings = recipe.prune
    budget = make_budget(model, settings, data)
    if settings.method != ADMM:
        attach_masks(model, budget, method_of(settings))
    return dry_run_stage("prune", recipe, settings, model, data) if learns(settings.method) else None


def dry_run_stage(stage: str, recipe: Recipe, settings: Training, model: nn.Module, data: ImageData) -> Estimate:
    settings = in_epochs(settings, len(data.train))
    world = recipe.compute.devices * recipe.compute.num_nodes
    share = batch_per_rank(settings.batch_size, world)
    fabric = launch(make_fabric(alone(recipe.compute)), recipe.compute)
    place(model, fabric.device, channels_last=recipe.compute.channels_last)
    macs, activations = macs_and_activations(model, data.shape, fabric.device)
    work = workload(
        settings,
        images=len(data.train),
        macs=macs,
        activations=activations,
        weights=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )
    batch_s = batch_seconds(stage, recipe, settings, model, data, fabric, share)
    return Estimate(
        stage, work, batch_s, _validation(recipe, model, data, fabric), world, peak_memory_bytes(fabric.device)
    )


def _validation(recipe: Recipe, model: nn.Module, data: ImageData, fabric: Fabric) -> float:
    """Seconds of what evaluates an epoch: clean accuracy, and that under PGD-10, of a network that is being trained."""
    images = data.validation
    assert images is not None
    clock = Clock(model, images, BATCH_SIZE, fabric.device)
    return float(
        sum(clock.evaluation(each, len(images), UNTRAINED).expected for each in (None, validation_attack(recipe)))
    )


def batch_seconds(
    stage: str, recipe: Recipe, settings: Training, model: nn.Module, data: ImageData, fabric: Fabric, share: int
) -> float:
    """Median seconds of one rank's ``share`` of a batch with every optimiser step on it, reading included."""
    budget = (budget_of(model) or make_budget(model, settings, data)) if isinstance(settings, Pruning) else None
    attacked = attacked_in(stage, settings, recipe.compute.engine, Ranks(), log.info, compiled=recipe.compute.compile)
    teacher = build_network(recipe, data).to(fabric.device).eval() if settings.distill else None
    course = make_course(
        *("dry run", recipe, settings, model, data.train, lambda model: (0.0, 0.0)),
        budget=budget,
        classes=len(data.classes),
        teacher=teacher,
        attacked=attacked,
        weight_step=weight_step_in(stage, settings, recipe.compute.engine, Ranks(), log.info),
    )
    optimizer = fabric.setup_optimizers(make_optimizer(model.train(), settings, rule=course.rule))
    if course.rule is not None:
        course.rule.start_epoch()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    order = order.repeat(-(-share * (_UNTIMED + _TIMED) // len(order)))
    times: list[float] = []
    batches = data.train.batches(order, share, augment_seed=0)
    while len(times) < _UNTIMED + _TIMED and sum(times) < _ENOUGH_S:
        began = time.perf_counter()
        x, y = next(batches)
        for _ in range(settings.steps_per_batch):
            # In the last epoch: the plug-ins have woken up by then.
            train_step(model, course, fabric, optimizer, x, y, epoch=settings.epochs - 1.0).item()
        times.append(time.perf_counter() - began)
    return statistics.median(times[_UNTIMED:] or times)


def pass_seconds(recipe: Recipe, data: ImageData) -> float:
    """Seconds of one forward and backward pass of one image, in the middle of a finetuning step of a new network."""
    settings = in_epochs(recipe.finetune, len(data.train))
    fabric = launch(make_fabric(alone(recipe.compute)), recipe.compute)
    model = place(build_network(recipe, data), fabric.device, channels_last=recipe.compute.channels_last)
    share = min(settings.batch_size, len(data.train))
    passes = stage_passes(replace(settings, epochs=1, warmup_epochs=0.0)).total
    return batch_seconds("pretrain", recipe, settings, model, data, fabric, share) / share / passes


def validation_seconds(recipe: Recipe, data: ImageData) -> float:
    """Seconds at the end of an epoch of a network of this recipe that is yet to be trained."""
    fabric = launch(make_fabric(alone(recipe.compute)), recipe.compute)
    model = place(build_network(recipe, data), fabric.device, channels_last=recipe.compute.channels_last)
    return _validation(recipe, model, data, fabric)


def macs_and_activations(model: nn.Module, shape: tuple[int, int, int], device: torch.device) -> tuple[int, int]:
    """Multiplications with additions of one forward pass of one image, and the numbers that its layers write."""
    written = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal written
        written += output.numel() if isinstance(output, Tensor) else 0

    handles = [layer.register_forward_hook(count) for layer in _layers(model)]
    try:
        with attacking(model), torch.no_grad(), every_product_seen(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return counter.get_total_flops() // 2, written


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """What has no parts of its own. The mask of a weight is no part."""
    parts = [child for name, child in module.named_children() if name != "parametrizations"]
    if not parts:
        yield module
    for part in parts:
        yield from _layers(part)
