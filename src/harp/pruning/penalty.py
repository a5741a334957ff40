"""The published rule: γ · excess joins the loss, and γ grows with the epochs until the budget is met (HARP, eq. 4)."""

from typing import Any

from torch import Tensor, nn

from harp.pruning.budget import Budget


class Ramp:
    """The weight γ of the excess in the paper's three phases, called once per epoch with the excess at its start.

    γ = step · (e + 1) while the budget is exceeded, frozen at the first call that finds it met.
    """

    def __init__(self, step: float = 0.01):
        if not step > 0:
            raise ValueError(f"step={step} must be positive; the paper uses 0.01 (CIFAR-10, SVHN) and 0.1 (ImageNet)")
        self.step = step
        self.calls = 0
        self.met = False

    def __call__(self, excess: Tensor | float) -> float:
        excess = excess.detach().item() if isinstance(excess, Tensor) else excess
        self.met = self.met or (self.calls > 0 and excess <= 0)
        if not self.met:
            self.calls += 1
        return self.step * self.calls


class Penalty:
    """Reach the budget by a growing penalty. Unstable on residual networks: kept for comparison with the paper."""

    moves_logits = False
    """The caller's optimiser does, along the gradient of the whole loss."""

    def __init__(self, model: nn.Module, budget: Budget, ramp: Ramp):
        self.model, self.budget, self.ramp = model, budget, ramp
        self.gamma: float | None = None

    def start_epoch(self) -> None:
        self.gamma = self.ramp(self.budget.excess(self.model))

    def loss(self) -> Tensor | float:
        """What to add to the robust loss before the backward pass."""
        return 0.0 if self.gamma is None else self.gamma * self.budget.excess(self.model)

    def step(self) -> None:
        """Nothing is left to do after the optimiser's step."""

    def state_dict(self) -> dict[str, Any]:
        return {"gamma": self.gamma, "calls": self.ramp.calls, "met": self.ramp.met}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.gamma, self.ramp.calls, self.ramp.met = state["gamma"], state["calls"], state["met"]
