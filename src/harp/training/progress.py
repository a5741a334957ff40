"""Where a stage stands: its counters, the metrics of each epoch, and the best one's weights."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning import Budget, density_of, masks
from harp.training.optimizer import KeepRule

_SLACK = 1.01
"""Fractions spend the budget up to rounding; freezing makes the count exact."""


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
    step_s: float
    images_per_s: float


class Progress:
    """Counters and records of a stage under way; everything but the last step's own numbers travels in the resume state."""

    def __init__(self) -> None:
        self.epoch = self.step = self.images = 0
        self.loss_sum = self.elapsed_s = 0.0
        self.best_state: dict[str, Tensor] = {}
        self.records: list[EpochMetrics] = []
        self.last_loss, self.last_s = math.nan, math.nan

    def count(self, loss: float, images: int, seconds: float) -> None:
        self.step += 1
        self.images += images
        self.loss_sum += loss
        self.elapsed_s += seconds
        self.last_loss, self.last_s = loss, seconds

    def shown(self, model: nn.Module, rule: KeepRule | None, epochs: int, steps: int) -> StepProgress:
        return StepProgress(
            epoch=self.epoch,
            epochs=epochs,
            step=self.step,
            steps=steps,
            loss=self.last_loss,
            density=density_of(model),
            gamma=rule.gamma if rule is not None else None,
            step_s=self.last_s,
            images_per_s=self._pace(),
        )

    def finish_epoch(
        self, model: nn.Module, budget: Budget | None, rule: KeepRule | None, lr: float, accuracies: tuple[float, float]
    ) -> None:
        """Write the epoch down, and keep its weights if it is the best so far."""
        density = density_of(model)
        self.records.append(
            EpochMetrics(
                epoch=self.epoch,
                loss=self.loss_sum / max(self.step, 1),
                clean_accuracy=accuracies[0],
                robust_accuracy=accuracies[1],
                density=density,
                gamma=rule.gamma if rule is not None else None,
                lr=lr,
                elapsed_s=self.elapsed_s,
                images_per_s=self._pace(),
                layers={name: mask.keep.item() for name, mask in masks(model).items()},
                met_budget=budget is None or density <= budget.keep * _SLACK,
            )
        )
        if best_of(self.records) is self.records[-1]:
            self.best_state = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0

    def _pace(self) -> float:
        return self.images / max(self.elapsed_s, 1e-9)

    def state(self, model: nn.Module, optimizer: Any, parts: dict[str, Any]) -> dict[str, Any]:
        """All that a run goes on from; ``parts`` are what else has a state, by name, or None."""
        return {
            "progress": {name: vars(self)[name] for name in _TRAVELS},
            "records": [asdict(record) for record in self.records],
            "model": dict(model.state_dict()),
            "optimizer": optimizer.state_dict(),
            **{name: None if part is None else part.state_dict() for name, part in parts.items()},
        }

    def restore(self, state: dict[str, Any], model: nn.Module, optimizer: Any, parts: dict[str, Any]) -> None:
        """The inverse of :meth:`state`. Raises whatever a state of something else runs into."""
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        _lay_out(optimizer)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        vars(self).update({name: state["progress"][name] for name in _TRAVELS})
        self.records = [EpochMetrics(**record) for record in state["records"]]


def _lay_out(optimizer: Any) -> None:
    """Momentum into the memory layout of its weight, which a file does not keep: a step across layouts is five times slower."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)


_TRAVELS = ("epoch", "step", "images", "loss_sum", "elapsed_s", "best_state")


def best_of(records: Sequence[EpochMetrics]) -> EpochMetrics | None:
    """The epoch of highest robust validation accuracy among those that meet the budget, the last one if none does."""
    inside = [record for record in records if record.met_budget]
    return max(inside, key=lambda record: record.robust_accuracy) if inside else records[-1] if records else None


def misses_budget(records: list[EpochMetrics], epochs: int, keep: float) -> bool:
    """Whether the density, falling as it did over the last epoch, would still exceed the budget at the stage's end."""
    if len(records) < 2 or records[-1].met_budget:
        return False
    factor = min(records[-1].density / max(records[-2].density, 1e-12), 1.0)
    return records[-1].density * factor ** (epochs - len(records)) > keep * _SLACK
