"""``fit``, the only training loop.

Every random number of a step follows from (seed, stage, epoch, step, rank) alone. So a resumed run needs no generator
state, and ends with the same bits as one that was never interrupted.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .checkpoint import load_state, save_state
from .data import Images
from .objectives import Objective
from .pruning import Budget, hold_masks, masks
from .recipes import Training

log = logging.getLogger(__name__)

AUTOSAVE_S = 120.0
"""A killed run repeats at most this much work."""


@dataclass(frozen=True)
class EpochMetrics:
    """One line of ``metrics.jsonl``. Accuracies are fractions of the validation split."""

    epoch: int
    loss: float
    clean_accuracy: float
    robust_accuracy: float
    density: float
    gamma: float | None
    lr: float
    elapsed_s: float
    images_per_s: float
    layers: dict[str, float]
    met_budget: bool


@dataclass(frozen=True)
class StepProgress:
    """What a progress bar shows after a step; ``step`` counts from 1 within the epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    density: float
    gamma: float | None
    seconds_a_step: float
    images_per_s: float


@runtime_checkable
class KeepRule(Protocol):
    """How learned keep fractions reach the budget: :class:`harp.pruning.Descent` or :class:`harp.pruning.Penalty`."""

    gamma: float | None
    moves_logits: bool

    def start_epoch(self) -> None: ...
    def loss(self) -> Tensor | float: ...
    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Course:
    """What ``fit`` runs: a stage's name and settings, its loss, its data, and how an epoch is judged."""

    stage: str
    settings: Training
    objective: Objective
    images: Images
    validate: Callable[[nn.Module], tuple[float, float]]
    """model → (clean, robust) accuracy on the validation split."""
    seed: int
    budget: Budget | None = None
    """Given while masks learn: only epochs that meet it can be the best."""
    rule: KeepRule | None = None


def fit(
    model: nn.Module,
    course: Course,
    fabric: Fabric,
    *,
    resume: Path | None = None,
    on_step: Callable[[StepProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[EpochMetrics]:
    """Train in place and yield the metrics of each epoch; at the end the model is that of the best epoch.

    The best epoch has the highest robust validation accuracy; while masks learn, among those that meet the budget (the
    last one if none does). With ``resume`` the state is written there at every epoch's end, every two minutes, and
    when ``should_stop`` says so (then KeyboardInterrupt is raised); a state found there is continued, its epochs first
    yielded again. Raises FloatingPointError at a loss that is not finite; the last good state stays on disk.
    """
    model.train()
    settings, world = course.settings, fabric.world_size
    optimizer = fabric.setup_optimizers(make_optimizer(model, settings, rule=course.rule))
    progress = _Progress()
    if resume is not None and resume.exists():
        progress.restore(load_state(resume), model, optimizer, course.rule)
        log.info("continuing %s at epoch %d, step %d", course.stage, progress.epoch, progress.step)
        yield from progress.records
    batch = _batch_per_rank(settings.batch_size, world)
    last_save = time.monotonic()

    def save() -> None:
        if resume is not None and fabric.is_global_zero:
            save_state(resume, progress.state(model, optimizer, course.rule))

    while progress.epoch < settings.epochs:
        order = epoch_order(course, progress.epoch, fabric.global_rank, world)
        steps = math.ceil(len(order) / batch)
        if progress.step == 0 and course.rule is not None:
            course.rule.start_epoch()
        augment = seed_of(course.seed, course.stage, "augment", progress.epoch)
        batches = course.images.batches(order[progress.step * batch :], batch, augment_seed=augment)
        for x, y in batches:
            began = time.perf_counter()
            set_lr(optimizer, lr_factor(settings, progress.epoch + progress.step / steps))
            torch.manual_seed(seed_of(course.seed, course.stage, progress.epoch, progress.step, fabric.global_rank))
            loss = train_step(model, course, fabric, optimizer, x, y)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss became {loss} in stage {course.stage}, epoch {progress.epoch}, step {progress.step} at lr "
                    f"{optimizer.param_groups[0]['lr']:.3g}; lower lr or set clip_norm. The last good state is kept"
                )
            progress.count(loss, len(x) * world, time.perf_counter() - began)
            on_step(progress.shown(model, course, steps))
            if should_stop():
                save()
                raise KeyboardInterrupt(f"stopped in {course.stage}, epoch {progress.epoch}, step {progress.step}")
            if time.monotonic() - last_save > AUTOSAVE_S:
                save()
                last_save = time.monotonic()
        average_buffers(fabric, model)
        torch.manual_seed(seed_of(course.seed, course.stage, "validate"))
        progress.finish_epoch(model, course, optimizer)
        save()
        yield progress.records[-1]
    model.load_state_dict(progress.best_state)


def train_step(model: nn.Module, course: Course, fabric: Fabric, optimizer: Any, x: Tensor, y: Tensor) -> float:
    """One step of the optimiser and the keep rule on one batch; the loss without the budget's penalty."""
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    x = x.to(fabric.device, non_blocking=True, memory_format=layout)
    y = y.to(fabric.device, non_blocking=True)
    with hold_masks(model):
        with fabric.autocast():
            loss = course.objective(model, x, y)
        penalty = course.rule.loss() if course.rule is not None else 0.0
        optimizer.zero_grad()
        fabric.backward(loss + penalty)
    average_gradients(fabric, model)
    if course.settings.clip_norm is not None:
        fabric.clip_gradients(model, optimizer, max_norm=course.settings.clip_norm)
    optimizer.step()
    if course.rule is not None:
        course.rule.step()
    return loss.item()


class _Progress:
    """Where a stage stands; everything in it travels in the resume state."""

    def __init__(self) -> None:
        self.epoch = self.step = self.images = 0
        self.loss_sum = self.elapsed_s = 0.0
        self.records: list[EpochMetrics] = []
        self.best_state: dict[str, Tensor] = {}
        self.last_loss, self.pace_s = math.nan, math.nan

    def count(self, loss: float, images: int, seconds: float) -> None:
        self.step += 1
        self.images += images
        self.loss_sum += loss
        self.elapsed_s += seconds
        self.last_loss = loss
        self.pace_s = seconds if math.isnan(self.pace_s) else 0.9 * self.pace_s + 0.1 * seconds

    def shown(self, model: nn.Module, course: Course, steps: int) -> StepProgress:
        return StepProgress(
            epoch=self.epoch,
            epochs=course.settings.epochs,
            step=self.step,
            steps=steps,
            loss=self.last_loss,
            density=density_of(model),
            gamma=course.rule.gamma if course.rule is not None else None,
            seconds_a_step=self.pace_s,
            images_per_s=self.images / max(self.elapsed_s, 1e-9),
        )

    def finish_epoch(self, model: nn.Module, course: Course, optimizer: Any) -> None:
        clean, robust = course.validate(model)
        density = density_of(model)
        # Fractions spend the budget up to rounding; freezing makes the count exact.
        met = course.budget is None or density <= course.budget.keep * 1.01
        self.records.append(
            EpochMetrics(
                epoch=self.epoch,
                loss=self.loss_sum / max(self.step, 1),
                clean_accuracy=clean,
                robust_accuracy=robust,
                density=density,
                gamma=course.rule.gamma if course.rule is not None else None,
                lr=optimizer.param_groups[0]["lr"],
                elapsed_s=self.elapsed_s,
                images_per_s=self.images / max(self.elapsed_s, 1e-9),
                layers={name: mask.keep.item() for name, mask in masks(model).items()},
                met_budget=met,
            )
        )
        if best_of(self.records) is self.records[-1]:
            self.best_state = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
        self.epoch, self.step, self.images, self.loss_sum = self.epoch + 1, 0, 0, 0.0

    def state(self, model: nn.Module, optimizer: Any, rule: KeepRule | None) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name not in ("records", "last_loss", "pace_s")}
        return {
            "progress": own,
            "records": [asdict(record) for record in self.records],
            "model": dict(model.state_dict()),
            "optimizer": optimizer.state_dict(),
            "rule": None if rule is None else rule.state_dict(),
        }

    def restore(self, state: dict[str, Any], model: nn.Module, optimizer: Any, rule: KeepRule | None) -> None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if rule is not None:
            rule.load_state_dict(state["rule"])
        vars(self).update(state["progress"])
        self.records = [EpochMetrics(**record) for record in state["records"]]


def best_of(records: list[EpochMetrics]) -> EpochMetrics | None:
    """The epoch of highest robust validation accuracy among those that meet the budget, the last one if none does."""
    inside = [record for record in records if record.met_budget]
    return max(inside, key=lambda record: record.robust_accuracy) if inside else records[-1] if records else None


def make_optimizer(model: nn.Module, settings: Training, *, rule: KeepRule | None = None) -> torch.optim.Optimizer:
    """SGD or AdamW over what may learn now. Logits never decay: a logit of 0 would mean keep = 0.5."""
    found = masks(model).values()
    logits = [mask.logit for mask in found if mask.logit is not None]
    scores = [mask.scores for mask in found if mask.scores is not None and mask.scores.requires_grad]
    special = {id(parameter) for parameter in logits + scores}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
    score_decay = getattr(settings, "score_weight_decay", None)
    groups = [
        {"params": others, "weight_decay": settings.weight_decay},
        {"params": scores, "weight_decay": settings.weight_decay if score_decay is None else score_decay},
        # A rule that moves the logits itself wants them here all the same, for loss scaling to treat them like all.
        {"params": logits, "weight_decay": 0.0, "lr": 0.0 if rule is not None and rule.moves_logits else settings.lr},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("nothing in the model may learn: every parameter has requires_grad=False")
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def lr_factor(settings: Training, epoch: float) -> float:
    """The share of the peak learning rate at a point of time given in epochs; a pure function, so resuming needs no state."""
    if epoch < settings.warmup_epochs:
        return (epoch + 1e-3) / settings.warmup_epochs
    done = (epoch - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs)
    match settings.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "piecewise":
            return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
        case "constant":
            return 1.0


def set_lr(optimizer: Any, factor: float) -> None:
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor


def seed_of(*parts: int | str) -> int:
    """A seed below 2⁶³ that depends on all parts and is the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def epoch_order(course: Course, epoch: int, rank: int, world: int) -> Tensor:
    """This rank's images of an epoch, in order: the same number on every rank, the same shuffle for all."""
    generator = torch.Generator().manual_seed(seed_of(course.seed, course.stage, "order", epoch))
    order = torch.randperm(len(course.images), generator=generator)
    order = order[: len(order) // world * world]
    batch = course.settings.batch_size
    # Batch norm cannot train on a single image.
    order = order[:-world] if len(order) % batch == world and len(order) > world else order
    return order[rank::world]


def density_of(model: nn.Module) -> float:
    """Kept share of all masked weights now; 1 for a network without masks."""
    found = masks(model).values()
    return sum(mask.keep.item() * mask.size for mask in found) / sum(mask.size for mask in found) if found else 1.0


def average_gradients(fabric: Fabric, model: nn.Module) -> None:
    """One all-reduce of all gradients. Attacks call the model many times a step, so a DDP wrapper would not do."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def average_buffers(fabric: Fabric, model: nn.Module) -> None:
    """Give every rank the mean of the batch-norm statistics."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(fabric.all_reduce(buffer, reduce_op="mean"))


def _batch_per_rank(batch_size: int, world: int) -> int:
    if batch_size % world:
        raise ValueError(
            f"batch_size={batch_size} must be divisible by the {world} devices, or gradients weigh unequally"
        )
    return batch_size // world
