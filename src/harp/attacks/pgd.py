"""PGD (Madry et al. 2018), FGSM (Goodfellow et al. 2015) and the Carlini–Wagner margin inside PGD."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .threat import Threat

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""``(model, x, y) -> x_adv``: leaves the model's mode, its gradients and its batch-norm statistics as they were."""


def cw_margin(logits: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Best wrong logit minus true logit, the loss f of Carlini and Wagner 2017, with no confidence floor."""
    true = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return wrong - true


def cross_entropy(logits: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return F.cross_entropy(logits, y, reduction="none")


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "cw": cw_margin}


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the loss inside a threat; for each image the last iterate of the worst restart.

    ``step_size`` defaults to 2.5·eps/steps. One step of size eps without a random start is FGSM.
    """

    threat: Threat
    steps: int = 10
    step_size: float | None = None
    random_start: bool = True
    loss: Literal["ce", "cw"] = "ce"
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1; for clean accuracy use no attack")
        if self.restarts < 1:
            raise ValueError(f"restarts={self.restarts} must be at least 1")
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size={self.step_size} must be positive, or None for 2.5 * eps / steps")
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r} is not known; choose one of {sorted(LOSSES)}")

    @property
    def name(self) -> str:
        return f"{'cw' if self.loss == 'cw' else 'pgd'}-{self.steps}"

    def __call__(
        self, model: nn.Module, x: Float[Tensor, "batch ..."], y: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch ..."]:
        with attacking(model):
            worst = self._one_run(model, x, y)
            for _ in range(self.restarts - 1):
                candidate = self._one_run(model, x, y)
                with torch.no_grad():
                    higher = self._loss(model, candidate, y) > self._loss(model, worst, y)
                worst = torch.where(higher.view(-1, *[1] * (x.dim() - 1)), candidate, worst)
        return worst

    def _loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return LOSSES[self.loss](model(x), y)

    def _one_run(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x.detach()
        return ascend(
            lambda x_adv: self._loss(model, x_adv, y).sum(),
            x,
            self.threat,
            steps=self.steps,
            step_size=2.5 * self.threat.eps / self.steps if self.step_size is None else self.step_size,
            start=self.threat.start(x) if self.random_start else x,
        )


def ascend(
    loss: Callable[[Tensor], Tensor], x: Tensor, threat: Threat, *, steps: int, step_size: float, start: Tensor
) -> Tensor:
    """The shared loop of the gradient attacks: step up the loss, project back, detach."""
    x_adv = start.detach()
    for _ in range(steps):
        with torch.enable_grad():
            x_adv.requires_grad_(True)
            # grad with respect to the image only: parameters get no gradient and none is computed for them.
            (gradient,) = torch.autograd.grad(loss(x_adv), x_adv)
        x_adv = threat.project(x_adv.detach() + step_size * threat.steepest(gradient), x)
    return x_adv


def fgsm(threat: Threat) -> PGD:
    """The fast gradient sign method: one step of size eps from the image itself."""
    return PGD(threat, steps=1, step_size=max(threat.eps, 1e-12), random_start=False)


@contextmanager
def attacking(model: nn.Module) -> Iterator[None]:
    """Eval mode for the time of an attack, each submodule's own mode restored afterwards, whatever happens."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
