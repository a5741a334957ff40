"""``fit``, the only training loop.

Every random number of a step follows from (seed, stage, epoch, step, rank) alone. So a resumed run needs no generator
state, and ends with the same bits as one that was never interrupted.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from harp.checkpoint import load_state, save_state
from harp.data import Images
from harp.objectives import FreeAT, Objective, on_batch, replays_of
from harp.pruning import Budget, FlyingBird, Sharpness, hold_masks, perturbed
from harp.recipes import Training, images_used
from harp.training.averaging import Average
from harp.training.distributed import Shares, average_gradients, averaged_buffers, batch_per_rank, mean_over, share
from harp.training.engines import Attacked, WeightStep, computed_by
from harp.training.mixing import Mixing
from harp.training.optimizer import KeepRule, lr_factor, make_optimizer, set_lr
from harp.training.progress import EpochMetrics, Progress, StepProgress
from harp.training.seeding import seed_of
from harp.training.targets import Targets

log = logging.getLogger(__name__)

AUTOSAVE_S = 120.0
"""A killed run repeats at most this much work."""


Validate = Callable[[nn.Module], tuple[float, float]]
"""model → (clean, robust) accuracy on the validation split."""


@dataclass(frozen=True)
class Course:
    """What ``fit`` runs: a stage's name and settings, its loss, its data, and how an epoch is evaluated."""

    stage: str
    settings: Training
    objective: Objective
    images: Images
    validate: Validate
    """Called on every rank. It may raise KeyboardInterrupt to stop the run, on all of them."""
    seed: int
    budget: Budget | None = None
    """Given while masks learn: only epochs that meet it can be the best."""
    rule: KeepRule | None = None
    sharpness: Sharpness | None = None
    attacked: Attacked | None = None
    """What attacks are made on; None is the model itself."""
    weight_step: WeightStep | None = None
    """What computes the loss; None is torch alone."""
    average: Average | None = None
    """Evaluated and kept, if there is one, in place of the weights that the steps lead to."""
    targets: Targets | None = None
    mixing: Mixing | None = None


def fit(
    model: nn.Module,
    course: Course,
    fabric: Fabric,
    *,
    resume: Path | None = None,
    on_step: Callable[[StepProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_end: Callable[[], None] = lambda: None,
) -> Iterator[EpochMetrics]:
    """Train in place and yield the metrics of each epoch; at the end the model is that of the best epoch.

    The best epoch has the highest robust validation accuracy; while masks learn, among those that meet the budget (the
    last one if none does). With ``resume`` the state is written there at every epoch's end, every two minutes, and
    when ``should_stop`` says so (then KeyboardInterrupt is raised); a state found there is continued, its epochs first
    yielded again. ``on_end`` is called where the steps have led, before the best epoch comes back. Raises FloatingPointError at a loss that is not finite; the last good state stays on disk.
    """
    model.train()
    share(fabric, model)
    run = _Run(model, course, fabric, resume)
    yield from run.restore()
    while run.progress.epoch < course.settings.epochs:
        for shown in run.steps():
            on_step(shown)
            stopped, due = run.together(should_stop(), time.monotonic() - run.last_save > AUTOSAVE_S)
            if stopped:
                run.stop()
            if due:
                run.save()
        yield run.finish_epoch()
    on_end()
    model.load_state_dict(run.progress.best_state)


class _Run:
    """One call of ``fit``: the model, its optimiser, and where they stand."""

    def __init__(self, model: nn.Module, course: Course, fabric: Fabric, resume: Path | None):
        self.model, self.course, self.fabric, self.resume = model, course, fabric, resume
        self.batch = batch_per_rank(course.settings.batch_size, fabric.world_size)
        self.optimizer: Any = fabric.setup_optimizers(make_optimizer(model, course.settings, rule=course.rule))
        self.progress = Progress()
        free = course.objective if isinstance(course.objective, FreeAT) else None
        self.parts: dict[str, Any] = {"rule": course.rule, "objective": None if free is None else Shares(fabric, free)}
        if course.attacked is not None:
            self.parts["attacked"] = course.attacked
        if course.weight_step is not None:
            self.parts["weight step"] = course.weight_step
        if course.average is not None:
            self.parts["average"] = course.average
        if (scaler := getattr(fabric.strategy.precision, "scaler", None)) is not None:
            self.parts["scaler"] = scaler  # of 16-mixed: how much it scales the loss decides which steps overflow
        self.last_save = time.monotonic()

    def restore(self) -> list[EpochMetrics]:
        """Continue the state on disk, if there is one; the epochs it has behind it."""
        found = self.resume is not None and self.resume.exists()
        if self.together(found) != [found]:
            raise ValueError(f"{self.resume} is not there for all processes: --out must be on a file system they share")
        if self.resume is None or not found:
            return []
        in_torch = {"engine": "torch"}
        state = {"attacked": in_torch, "weight step": in_torch, **load_state(self.resume)}  # where there was no choice
        try:
            self.progress.restore(state, self.model, self.optimizer, self.parts)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"{self.resume} is the state of another network or version of harp ({error}); delete it to start the "
                "stage again"
            ) from error
        log.info("continuing %s at epoch %d, step %d", self.course.stage, self.progress.epoch, self.progress.step)
        return list(self.progress.records)

    def steps(self) -> Iterator[StepProgress]:
        """The steps that the epoch under way still has."""
        course, progress, fabric = self.course, self.progress, self.fabric
        order = epoch_order(course, progress.epoch, fabric.global_rank, fabric.world_size)
        steps = math.ceil(len(order) / self.batch)
        if progress.step == 0 and course.rule is not None:
            course.rule.start_epoch()
        augment = seed_of(course.seed, course.stage, "augment", progress.epoch)
        began = time.perf_counter()
        batches = course.images.batches(order[progress.step * self.batch :], self.batch, augment_seed=augment)
        ahead = next(batches, None)
        while ahead is not None:
            (x, y), images = ahead, len(ahead[0])
            now = progress.epoch + progress.step / steps
            set_lr(self.optimizer, lr_factor(course.settings, now))
            torch.manual_seed(seed_of(course.seed, course.stage, progress.epoch, progress.step, fabric.global_rank))
            if course.mixing is not None and course.targets is not None:
                x, y = course.mixing(x, y, course.targets)
            step = (self.model, course, fabric, self.optimizer, x, y)
            losses = [train_step(*step, epoch=now) for _ in range(replays_of(course.objective))]
            ahead = next(batches, None)  # made while a GPU is at work: to ask it for the loss is to wait for it
            loss = self._mean(sum(loss.item() for loss in losses) / len(losses))
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}")
            progress.count(loss, images * fabric.world_size, time.perf_counter() - began)
            yield progress.shown(self.model, course.rule, course.settings.epochs, steps)
            began = time.perf_counter()

    def finish_epoch(self) -> EpochMetrics:
        """Evaluate the model after the epoch, and save the state of the run."""
        if not _finite(self.model):
            raise self._diverged("a weight is no longer finite")
        torch.manual_seed(seed_of(self.course.seed, self.course.stage, "validate"))
        lr, average = self.optimizer.param_groups[0]["lr"], self.course.average
        try:
            with nullcontext() if average is None else average.in_place():
                accuracies = self._validate()
                self.progress.finish_epoch(self.model, self.course.budget, self.course.rule, lr, accuracies)
        except KeyboardInterrupt:
            self.stop()
        self.save()
        return self.progress.records[-1]

    def _validate(self) -> tuple[float, float]:
        """Accuracies on the validation split, which the ranks share."""
        clean, robust = self.course.validate(self.model)
        return self._mean(clean), self._mean(robust)

    def save(self) -> None:
        """Write the state, unless it is not worth going back to. All ranks call it, since each has a share of it."""
        if self.resume is not None and _finite(self.model):
            state = self.progress.state(self.model, self.optimizer, self.parts)
            if self.fabric.is_global_zero:
                save_state(self.resume, state)
        self.last_save = time.monotonic()

    def stop(self) -> NoReturn:
        self.save()
        self.fabric.barrier()  # a process that is gone before the state is written would take the first one with it
        raise KeyboardInterrupt(
            f"stopped in {self.course.stage}, epoch {self.progress.epoch}, step {self.progress.step}"
        )

    def together(self, *asked: bool) -> list[bool]:
        """What any rank was asked for: all must stop, or save, at the same step, or the rest would wait for ever."""
        if self.fabric.world_size == 1:
            return [*asked]
        votes = torch.tensor(asked, dtype=torch.float64, device=self.fabric.device)
        return (mean_over(self.fabric, votes) > 0).tolist()

    def _mean(self, value: float) -> float:
        if self.fabric.world_size == 1:
            return value
        return mean_over(self.fabric, torch.tensor(value, dtype=torch.float64, device=self.fabric.device)).item()

    def _diverged(self, what: str) -> FloatingPointError:
        kept = self.resume is not None and self.resume.exists()
        state = f"; the last good state is kept in {self.resume}" if kept else ""
        return FloatingPointError(
            f"{what} in stage {self.course.stage}, epoch {self.progress.epoch}, step {self.progress.step}, at lr "
            f"{self.optimizer.param_groups[0]['lr']:.3g}: lower lr, or set clip_norm{state}"
        )


def train_step(
    model: nn.Module, course: Course, fabric: Fabric, optimizer: Any, x: Tensor, y: Tensor, *, epoch: float = 0.0
) -> Tensor:
    """One step of the optimiser and the keep rule on one batch; the loss without the budget's penalty, which a GPU may still
    be computing.

    With a plug-in, the gradient is that of the same attacked images at the worst point nearby; the loss is still that here.
    """
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    x = x.to(fabric.device, non_blocking=True, memory_format=layout)
    y = y.to(fabric.device, non_blocking=True)
    with averaged_buffers(fabric, model):
        with hold_masks(model):
            with fabric.autocast():
                y, target = (y, None) if course.targets is None else course.targets(x, y)
                robust_loss = on_batch(course.objective, model, x, y, target=target, attacked=course.attacked)
                if course.weight_step is not None:
                    robust_loss = computed_by(course.weight_step, robust_loss, model, x, y)
            loss = _take_gradients(model, robust_loss, fabric, optimizer)
        if course.sharpness is not None and epoch >= course.sharpness.warmup:
            with perturbed(model, course.sharpness), hold_masks(model):
                _take_gradients(model, robust_loss, fabric, optimizer)
    penalty = course.rule.loss() if course.rule is not None else 0.0
    if isinstance(penalty, Tensor):  # the same on every rank, and no business of a plug-in
        fabric.backward(penalty)
    if isinstance(course.rule, FlyingBird):
        course.rule.note_gradients()
    if course.settings.clip_norm is not None:
        # With loss scaling a gradient may overflow now and then; otherwise the next loss tells.
        fabric.clip_gradients(model, optimizer, max_norm=course.settings.clip_norm, error_if_nonfinite=False)
    optimizer.step()
    if course.rule is not None:
        course.rule.step()
    if course.average is not None:
        course.average.step()
    return loss


def _take_gradients(model: nn.Module, loss: Callable[[], Tensor], fabric: Fabric, optimizer: Any) -> Tensor:
    """New gradients of the loss where the model is now, the mean over all ranks; the loss of this one."""
    with fabric.autocast():
        value = loss()
    optimizer.zero_grad()
    fabric.backward(value)
    average_gradients(fabric, model)
    return value.detach()


def epoch_order(course: Course, epoch: int, rank: int, world: int) -> Tensor:
    """This rank's images of an epoch, in order: the same number on every rank, the same shuffle for all."""
    generator = torch.Generator().manual_seed(seed_of(course.seed, course.stage, "order", epoch))
    order = torch.randperm(len(course.images), generator=generator)
    return order[: images_used(len(order), course.settings.batch_size, world)][rank::world]


def _finite(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad)
