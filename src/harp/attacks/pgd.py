"""PGD (Madry et al. 2018), FGSM (Goodfellow et al. 2015) and the Carlini–Wagner margin inside PGD."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harp.attacks.guard import as_images, as_targets, attacking, logits_of
from harp.attacks.threat import Threat

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


@runtime_checkable
class Named(Protocol):
    """An attack that says what it is called and which ball it stays in: its results are recorded with both, and held to it."""

    @property
    def name(self) -> str: ...
    @property
    def threat(self) -> Threat: ...
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor: ...


"""``(model, x, y) -> x_adv``: leaves the model's mode, its gradients and its batch-norm statistics as they were."""


def cw_margin(logits: Float[Tensor, "batch classes"], y: Tensor) -> Float[Tensor, " batch"]:
    """Best wrong logit minus true logit, the loss f of Carlini and Wagner 2017, with no confidence floor."""
    y = as_targets(y, *logits.shape)
    y = y.argmax(1) if y.is_floating_point() else y
    true = logits.gather(1, y[:, None]).squeeze(1)
    wrong = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return wrong - true


def cross_entropy(logits: Float[Tensor, "batch classes"], y: Tensor) -> Float[Tensor, " batch"]:
    y = as_targets(y, *logits.shape)
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
        if not isinstance(self.threat, Threat):
            raise TypeError(f"threat={self.threat!r} must be a Threat, e.g. Threat('linf', eps=8 / 255)")
        check_steps(self.steps, self.step_size)
        if not isinstance(self.restarts, int) or self.restarts < 1:
            raise ValueError(f"restarts={self.restarts!r} must be a whole number, at least 1")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts={self.restarts} would repeat one run; set random_start=True")
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r} is not known; choose one of {sorted(LOSSES)}")

    @property
    def name(self) -> str:
        return f"{'cw' if self.loss == 'cw' else 'pgd'}-{self.steps}"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "batch ..."]:
        x = as_images(model, x)
        with attacking(model):
            runs = [self._one_run(model, x, y) for _ in range(self.restarts)]
            if len(runs) == 1:
                return runs[0]
            losses = torch.stack([self._final_loss(model, run, y) for run in runs])
        return torch.stack(runs)[losses.argmax(0), torch.arange(len(x), device=x.device)]

    @torch.no_grad()
    def _final_loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return LOSSES[self.loss](logits_of(model, x), y)

    def _one_run(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x.detach()
        return ascend(
            lambda x_adv: LOSSES[self.loss](logits_of(model, x_adv), y).sum(),
            x,
            self.threat,
            steps=self.steps,
            step_size=self.step_size,
            start=self.threat.start(x) if self.random_start else x,
        )


def check_attack(attack: object) -> None:
    """Raises TypeError for what cannot be called as an attack is: a Threat, say, or a name."""
    if not callable(attack):
        raise TypeError(
            f"attack={attack!r} must be an attack, (model, x, y) -> x_adv: PGD(threat), or autoattack(threat)"
        )


def check_steps(steps: int, step_size: float | None) -> None:
    """Raises ValueError for a number or a length of steps that no attack can take."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be a whole number, at least 1; for clean accuracy use no attack")
    if step_size is not None and not 0 < step_size < float("inf"):
        raise ValueError(f"step_size={step_size} must be positive and finite, or None for 2.5 * eps / steps")


def ascend(
    loss: Callable[[Tensor], Tensor], x: Tensor, threat: Threat, *, steps: int, step_size: float | None, start: Tensor
) -> Tensor:
    """The shared loop of the gradient attacks: step up the loss, project back, detach. Steps default to 2.5·eps/steps."""
    length = 2.5 * threat.eps / steps if step_size is None else step_size
    x_adv = start.detach()
    for _ in range(steps):
        with torch.enable_grad():
            x_adv.requires_grad_(True)
            # grad with respect to the image only: parameters get no gradient and none is computed for them.
            (gradient,) = torch.autograd.grad(loss(x_adv), x_adv)
        x_adv = threat.project(x_adv.detach() + length * threat.steepest(gradient), x)
    return x_adv


def fgsm(threat: Threat) -> PGD:
    """The fast gradient sign method: one step of size eps from the image itself."""
    # A step of 0 is no step, and eps may be 0.
    return PGD(threat, steps=1, step_size=threat.eps or 1.0, random_start=False)
