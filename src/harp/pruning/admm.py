"""Robust-ADMM (Ye et al. 2019): the weights learn under a pull towards the sparse set, and are cut to it at the end.

    min over θ of  robust_loss(θ) + ρ/2 · ‖θ − Z + U‖²,    Z = projection of θ + U on the sparse set,    U ← U + θ − Z

The sparse set has the exact budget, split uniformly; its nearest point keeps the entries of largest magnitude, of equals the
first. Of channels it keeps those that LWM would, and zeroes what reads the others. Z and U are renewed ``rounds`` − 1 times, evenly over the stage, and ρ grows by ``growth`` each time, as in the authors'
code (0.001, times 1.3 after every tenth). Unlike there, U shrinks by as much: it is the multiplier over ρ (Boyd et al. 2011,
section 3.4.1).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.budget import Budget
from harp.pruning.methods import LWM, Method
from harp.pruning.sharpness import restored

_PULL = 0.6
"""ρ · lr · steps at the start: 0.001 over the 20 epochs at lr 0.1 of the paper's CIFAR-10, where the sum of lr · ρ is that
of the authors' code, 200 epochs of lr 0.01 that falls by 10 twice in each round."""


class Admm:
    """Pulls the weights of a model without masks to a budget: add ``loss()`` to the robust one, ``step()`` after each step.

    ``steps`` are those of the whole stage. Then ``attach_masks(model, budget, LWM)`` cuts to the same set.
    """

    moves_logits = False

    def __init__(
        self, model: nn.Module, budget: Budget, steps: int, *, rho: float, growth: float = 1.3, rounds: int = 10,
        method: Method = LWM,
    ):  # fmt: skip
        if steps < 1 or rounds < 1:
            raise ValueError(f"steps={steps} and rounds={rounds} must be at least 1")
        if not rho > 0 or not growth >= 1:
            raise ValueError(f"rho={rho} must be positive and growth={growth} at least 1; the paper's code uses 1.3")
        self.nearest = budget.projection(model, method)
        """The nearest point of the sparse set: what the masks would keep, and zeros."""
        self.weights = self.nearest.weights
        self.model, self.steps, self.growth, self.rounds = model, steps, growth, rounds
        self.gamma: float | None = rho
        self.done = 0
        self.z = self._now()
        self.u = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    def _now(self) -> dict[str, Tensor]:
        return self.nearest({name: weight.detach() for name, weight in self.weights.items()})

    def start_epoch(self) -> None:
        """Rounds are shares of the stage, not epochs."""

    def loss(self) -> Tensor | float:
        """ρ/2 · ‖θ − Z + U‖² over all layers."""
        pulls = [(w - self.z[name] + self.u[name]).square().sum() for name, w in self.weights.items()]
        assert self.gamma is not None
        return self.gamma / 2 * torch.stack(pulls).sum()

    @torch.no_grad()
    def step(self) -> None:
        """Count a step of the optimiser; at the end of a round, but the last, renew Z and U."""
        self.done += 1
        ended, before = (done * self.rounds // self.steps for done in (self.done, self.done - 1))
        if ended > before and self.done < self.steps:
            self._renew()

    def _renew(self) -> None:
        assert self.gamma is not None
        total = {name: weight + self.u[name] for name, weight in self.weights.items()}
        self.z = self.nearest(total)
        self.u = {name: (total[name] - self.z[name]) / self.growth for name in total}
        self.gamma *= self.growth

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Inside the `with`, the model is as sparse as after the stage, for validation."""
        with restored(self.model, self.weights.values()):
            with torch.no_grad():
                for name, value in self._now().items():
                    self.weights[name].copy_(value)
            yield

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "rho": self.gamma, "z": self.z, "u": self.u}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self.gamma = state["done"], state["rho"]
        for mine, theirs in ((self.z, state["z"]), (self.u, state["u"])):
            for name, tensor in mine.items():
                mine[name] = tensor.copy_(theirs[name])


def starting_rho(lr: float, steps: int) -> float:
    """ρ that pulls as much over a stage of any length as the authors' does over theirs."""
    return _PULL / (lr * steps)
