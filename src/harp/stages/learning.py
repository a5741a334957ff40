"""A stage learns: epoch by epoch, with its metrics written and its budget watched."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import nn

from harp.checkpoint import save_tensors
from harp.files import write_json_lines
from harp.pruning import Budget, FlyingBird, Gradual, attach_masks, bake_masks, freeze_masks, masks
from harp.recipes import Training, few_steps, in_epochs
from harp.runs.fractions import of_fractions
from harp.stages.course import course_of
from harp.stages.logs import make_log
from harp.stages.opening import Stage
from harp.training.build import method_of
from harp.training.distributed import place
from harp.training.loop import fit
from harp.training.progress import EpochMetrics, misses_budget

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """A network that a stage is done with, masks still on it, and what there is to say of how it learned."""

    model: nn.Module
    records: tuple[EpochMetrics, ...] = ()
    engine: str = "torch"
    """What attacks ran on."""
    weight_step: str = "torch"
    """What computed the loss and the gradients of weights."""
    fractions: Mapping[str, Any] | None = None
    """How learned keep fractions came to the budget."""


def begin(stage: Stage, what: str) -> None:
    """Make the directory the stage's, the first rank for all."""
    if stage.fabric.is_global_zero:
        stage.claim.begin(stage.inputs, anew=stage.anew)
    stage.fabric.barrier()
    stage.watch.on_start(stage.claim.stage, what)


def learn(stage: Stage, model: nn.Module, settings: Training, what: str, budget: Budget | None = None) -> Learned:
    """Train the network in the stage's directory; interrupted, the same call goes on."""
    claim, images, watch = stage.claim, len(stage.data.train), stage.watch
    model = place(model, stage.fabric.device, channels_last=claim.recipe.compute.channels_last)
    few, settings = few_steps(settings, images), in_epochs(settings, images)
    if few is not None:
        log.warning("%s: %s", claim.stage, few)
    course, records = course_of(stage, model, settings, budget), list[EpochMetrics]()
    start = {name: float(m.keep.detach()) for name, m in masks(model).items() if m.logit is not None}
    log_epochs = make_log(claim.recipe, claim.stage, claim.run)
    begin(stage, f"{what}; {settings.epochs} epochs of {images:,} images")
    keep_last = partial(_keep_last, stage, model, settings, budget)
    how = partial(fit, resume=claim.run.resume, on_step=watch.on_step, should_stop=watch.should_stop, on_end=keep_last)
    try:
        for metrics in how(model, course, stage.fabric):
            records.append(metrics)
            if stage.fabric.is_global_zero:
                write_json_lines(claim.run.metrics, [asdict(record) for record in records])
                log_epochs(records)
            _warn_of_budget(records, settings.epochs, budget)
            watch.on_epoch(metrics)
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}. With --overwrite, or another --out, other settings start anew") from error
    if budget is not None and not masks(model):
        attach_masks(model, budget, method_of(claim.recipe.prune))
    if isinstance(course.rule, Gradual | FlyingBird):
        course.rule.cut()  # the best epoch may be one of nearly the budget
    engine, weight_step = (each.name if each else "torch" for each in (course.attacked, course.weight_step))
    return Learned(model, tuple(records), engine, weight_step, of_fractions(start, records) if start else None)


def _keep_last(stage: Stage, model: nn.Module, settings: Training, budget: Budget | None) -> None:
    """Write the network that the steps have led to, cut to the budget where masks learn."""
    if not settings.keep_last or not stage.fabric.is_global_zero:
        return
    plain = copy.deepcopy(model)
    if budget is not None and not masks(plain):
        attach_masks(plain, budget, method_of(stage.claim.recipe.prune))
    baked = bake_masks(freeze_masks(plain)) if masks(plain) else plain
    save_tensors(stage.claim.run.last, baked.cpu().state_dict())


def _warn_of_budget(records: list[EpochMetrics], epochs: int, budget: Budget | None) -> None:
    """Say at half time, and at the end, that learning does not meet the budget; the exact cut comes all the same."""
    if budget is None or records[-1].met_budget or not records[-1].layers:  # ADMM is dense until it is cut
        return
    density = f"density {records[-1].density:.3%} after {len(records)} of {epochs} epochs, and the budget is {budget.keep:.3%}"
    if len(records) == epochs and not any(record.met_budget for record in records):
        log.warning(
            "%s: no epoch met the budget, so the masks are cut to it at the end without further training", density
        )
    elif len(records) == (epochs + 1) // 2 and misses_budget(records, epochs, budget.keep):
        log.warning("%s: at this pace learning will not meet it; raise gamma_step, or take rule='descent'", density)
