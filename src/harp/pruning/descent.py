"""How learned keep fractions come down to the budget without running away: bounded steps on a density schedule.

The published rule adds γ · excess to the loss and lets the scores' optimiser move the logits. It is unstable: dL/da_l is a
sum of noise over a whole layer, so large layers jump, and the sigmoid's slope grows with a. Here both forces on a logit r_l
are measured in the metric in which the noise is alike for every layer, s_l^½ with s_l = ∂used/∂r_l. (For weights s_l is
about the number kept, k_l / N; and dL/dr_l, from the mean over about k_l entries next in line, see
:func:`~harp.pruning.estimators.marginal`, has noise of order k_l^½.) A step is

1. *robustness*: r_l moves against s_l^-½ · dL/dr_l, divided by its size over all layers, less the part that all layers
   would gain alike, smoothed by momentum, and by no more than ``travel / steps``;
2. *budget*: r_l ← r_l − λ · s_l^½, with the one λ that puts the density on the schedule
   start · (keep / start)^min(1, t / (settle · steps)).

Both use the same metric, so they rest where dL/da_l / n_l is the same for all layers: where no exchange of weights between
layers helps. λ is the multiplier of the budget, the γ of the paper solved for instead of ramped. The density reaches the
target at ``settle`` of the stage, whatever the target and the length, and stays there while layers go on trading.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.budget import Budget
from harp.pruning.mask import masks

_LONGEST_MOVE = 0.05  # along one direction of the budget's force, before it is measured anew


class Descent:
    """Moves the logits of a model's masks; call ``step()`` after each backward pass, beside the optimiser's own step.

    ``steps`` are those of the whole prune stage, ``settle`` the share of it after which the budget is met. ``travel``
    is the furthest a logit can move for robustness in the whole stage, and ``pace`` how fast it does.
    """

    moves_logits = True
    gamma: float | None = None

    def __init__(
        self,
        model: nn.Module,
        budget: Budget,
        steps: int,
        *,
        settle: float = 0.6,
        pace: float = 40.0,
        travel: float = 16.0,
        momentum: float = 0.9,
    ):
        if steps < 1:
            raise ValueError(f"steps={steps} must be at least 1: the optimiser steps of the whole prune stage")
        if not 0 < settle <= 1:
            raise ValueError(
                f"settle={settle} must lie in (0, 1]: the share of the stage after which the budget is met"
            )
        self.start = float(budget.used(model).detach())  # first, as it says so when there are no masks
        found = masks(model)
        self.budget, self.steps, self.settle = budget, steps, settle
        self.pace, self.travel, self.momentum = pace, travel, momentum
        self.learned = {name: found[name] for name in budget.sites if found[name].logit is not None}
        self.fixed = {name: found[name].keep.item() for name in budget.sites if found[name].logit is None}
        self.floors = torch.tensor([mask.keep_min for mask in self.learned.values()], dtype=torch.float64)
        self.tops = torch.tensor([mask.keep_max for mask in self.learned.values()], dtype=torch.float64)
        self.done = 0
        self.velocity = torch.zeros(len(self.learned), dtype=torch.float64)

    def start_epoch(self) -> None:
        """Nothing depends on epochs."""

    def loss(self) -> float:
        """The budget is a constraint, not a penalty."""
        return 0.0

    def goal(self) -> float:
        """The density that the schedule asks for after the steps done so far."""
        share = min(1.0, self.done / (self.settle * self.steps))
        return self.start * (self.budget.keep / self.start) ** share

    @torch.no_grad()
    def step(self) -> None:
        """Move every logit a bounded step against its gradient, then all onto the schedule."""
        if not self.learned:
            return
        self.done = min(self.done + 1, self.steps)
        logits = [mask.logit for mask in self.learned.values() if mask.logit is not None]
        r, gradient = torch.stack([torch.stack([q, _gradient(q)]) for q in logits]).double().cpu().T
        # An overflow under mixed precision skips this, as the optimiser skips its step.
        if torch.isfinite(gradient).all():
            r = r - self._robust_move(gradient, self._used(r)[1].sqrt())
        for logit, value in zip(logits, self._onto_schedule(r).tolist(), strict=True):
            logit.fill_(value)
            logit.grad = None  # used up, and no other optimiser need know the logits to clear it

    def _robust_move(self, gradient: Tensor, metric: Tensor) -> Tensor:
        gradient = gradient / metric.clamp_min(1e-12)
        # What all layers gain alike the budget would take back at once: only the exchange between them counts.
        exchange = gradient - (gradient @ metric) / (metric @ metric).clamp_min(1e-24) * metric
        # Relative to this step's own size: the first steps without most weights have gradients a hundred times larger.
        exchange = exchange / gradient.square().mean().sqrt().clamp_min(1e-30)
        self.velocity = self.momentum * self.velocity + (1 - self.momentum) * exchange
        decay = 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        bound = self.travel / self.steps
        return (self.pace / self.steps * decay * self.velocity).clamp(-bound, bound)

    def _onto_schedule(self, r: Tensor) -> Tensor:
        goal = self.goal()
        for _ in range(1000):
            used, slopes = self._used(r)
            direction = slopes.sqrt() / slopes.sqrt().max()
            if abs(used / goal - 1) < 1e-6 or not float(slopes.max()) > 0:
                break
            multiplier = (used - goal) / float((slopes * direction).sum())
            r = r - min(max(multiplier, -_LONGEST_MOVE), _LONGEST_MOVE) * direction
        return r

    def _used(self, r: Tensor) -> tuple[float, Tensor]:
        """The budget's share at these logits, and its gradient with respect to them."""
        with torch.enable_grad():
            r = r.detach().requires_grad_(True)
            keeps = self.floors + (self.tops - self.floors) * torch.sigmoid(r)
            used = self.budget.share({**self.fixed, **dict(zip(self.learned, keeps, strict=True))})
            (slopes,) = torch.autograd.grad(used, r)
        return float(used.detach()), slopes

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "start": self.start, "velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self.start, self.velocity = (state[k] for k in ("done", "start", "velocity"))


def _gradient(logit: Tensor) -> Tensor:
    return torch.zeros_like(logit) if logit.grad is None else logit.grad
