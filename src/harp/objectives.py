"""Everything that trains is ``(model, x, y) -> loss``, a scalar; images x in [0, 1], y classes or probabilities of them.

Attacks are crafted in eval mode, the loss is taken in the mode the model is in. Free-AT, which has a state, is a class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harp.attacks import (
    Attack,
    Threat,
    as_images,
    as_labels,
    as_targets,
    ascend,
    attacking,
    check_attack,
    check_steps,
    logits_of,
)

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RobustLoss:
    """An objective in two parts, for the loss to be taken at several points of the model on images attacked once."""

    craft: Attack
    loss: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    """``(model, x, x_adv, y) -> loss``"""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(model, x, self.craft(model, x, y), y)


def on_batch(
    objective: Objective,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    target: Tensor | None = None,
    attacked: Callable[[nn.Module, Tensor, Tensor], nn.Module] | None = None,
) -> Callable[[], Tensor]:
    """The loss on one batch as a function of where the model is when it is called; of two parts, the attack is made now.

    The attack is made for ``y``, and the loss taken of ``target``, if that is something else. The attack of a
    `RobustLoss` is made on what ``attacked`` gives for the model and the batch; None is the model itself.
    """
    target = y if target is None else target
    if not isinstance(objective, RobustLoss | FreeAT):
        return lambda: objective(model, x, target)
    on = attacked(model, x, y) if attacked and isinstance(objective, RobustLoss) else model
    x_adv = objective.craft(on, x, y)
    return lambda: objective.loss(model, x, x_adv, target)


def natural() -> Objective:
    """Cross-entropy on the images as they are."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return _cross_entropy(logits_of(model, as_images(model, x)), y)

    return loss


def pgd_at(attack: Attack) -> Objective:
    """Adversarial training (Madry et al. 2018): cross-entropy on the attacked images."""
    return RobustLoss(_guarded(attack), _on_attacked)


def _guarded(attack: Attack) -> Attack:
    """An attack, the user's own too, that is only given images and labels it can be made for."""
    check_attack(attack)
    return lambda model, x, y: attack(model, as_images(model, x), as_targets(y, len(x)))


def _on_attacked(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    return _cross_entropy(logits_of(model, x_adv), y)


def n_fgsm(threat: Threat, *, noise: float = 2.0, step: float = 1.0) -> Objective:
    """N-FGSM (de Jorge et al. 2022): uniform noise of ``noise · eps``, one step of ``step · eps``, no clipping around x.

    Two passes per step instead of eleven, and no catastrophic overfitting at eps = 8/255. l∞ only.
    """
    if threat.norm != "linf":
        raise ValueError(f"n_fgsm is defined for norm 'linf', got {threat.norm!r}; use pgd_at")
    if not noise >= 0 or not step > 0:
        raise ValueError(f"noise={noise} must not be negative and step={step} must be positive; the paper uses 2 and 1")

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = as_images(model, x)
        with attacking(model), torch.enable_grad():
            start = x.detach() + torch.empty_like(x).uniform_(-noise * threat.eps, noise * threat.eps)
            start.requires_grad_(True)
            (gradient,) = torch.autograd.grad(_cross_entropy(logits_of(model, start), y, "sum"), start)
        return (start.detach() + step * threat.eps * gradient.sign()).clamp(0.0, 1.0)

    return RobustLoss(craft, _on_attacked)


def trades(threat: Threat, *, beta: float = 6.0, steps: int = 10, step_size: float | None = None) -> Objective:
    """TRADES (Zhang et al. 2019): CE(f(x), y) + β · KL(f(x) ‖ f(x')), x' crafted to maximise the KL term."""
    check_steps(steps, step_size)
    _check_beta(beta)

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = as_images(model, x)
        with attacking(model):
            with torch.no_grad():
                clean = logits_of(model, x)
            return ascend(
                lambda z: divergence(clean, logits_of(model, z)).sum(),
                x.detach(),
                threat,
                steps=steps,
                step_size=step_size,
                # The KL term has no gradient at x itself.
                start=threat.project(x + 0.001 * torch.randn_like(x), x),
            )

    def loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        # One pass over both halves: batch-norm statistics are those of clean and attacked images together.
        logits, logits_adv = logits_of(model, torch.cat([x, x_adv])).chunk(2)
        return _cross_entropy(logits, y) + beta * divergence(logits, logits_adv).mean()

    return RobustLoss(craft, loss)


def mart(attack: Attack, *, beta: float = 5.0) -> Objective:
    """MART (Wang et al. 2020): boosted CE on x' plus β · KL weighted by how unsure the model is of the clean image."""
    _check_beta(beta)
    craft = _guarded(attack)

    def loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        logits, logits_adv = logits_of(model, torch.cat([x, x_adv])).chunk(2)
        y = as_labels(y, *logits.shape)
        strongest_wrong = F.softmax(logits_adv, dim=1).scatter(1, y[:, None], 0.0).amax(1)
        boosted = _cross_entropy(logits_adv, y) - torch.log1p(1e-4 - strongest_wrong).mean()
        true = F.softmax(logits, dim=1).gather(1, y[:, None]).squeeze(1)
        return boosted + beta * (divergence(logits, logits_adv) * (1 - true)).mean()

    return RobustLoss(craft, loss)


class FreeAT:
    """Free adversarial training (Shafahi et al. 2019): ``replays`` optimiser steps on each batch, one pass each.

    The backward pass of a step gives the gradient of the images, too, and the perturbation climbs along it: call, go
    backward and step ``replays`` times on a batch. What one batch ends with, the next begins with.
    """

    def __init__(self, threat: Threat, *, replays: int, step_size: float | None):
        if replays < 1:
            raise ValueError(f"replays={replays} must be at least 1; the paper uses 4 on ImageNet and 8 on CIFAR-10")
        check_steps(1, step_size)
        self.threat, self.replays = threat, replays
        self.step_size = threat.eps if step_size is None else step_size
        self.delta: Tensor | None = None
        self._latest: tuple[Tensor, Tensor] | None = (
            None  # images and what was made of them, the gradient still to come
        )

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(model, x, self.craft(model, x, y), y)

    def craft(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The images under the perturbation as it stands, which takes a gradient from the next backward pass."""
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "free_at climbs by the gradient of the backward pass: call it outside torch.inference_mode"
            )
        x = as_images(model, x)
        self._climb()
        self.delta = self._carried(x)
        # With the layout of x, which a file does not keep: other layouts may round otherwise.
        start = x + torch.empty_like(x).copy_(self.delta[: len(x)])
        x_adv = self.threat.project(start, x).requires_grad_(True)
        self._latest = (x, x_adv)
        return x_adv

    def loss(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
        x_adv.grad = None  # of several passes the last one counts, by which the optimiser descends
        return _cross_entropy(logits_of(model, x_adv), y)

    def _carried(self, x: Tensor) -> Tensor:
        """The perturbation so far; zeros at first, and for images of another shape."""
        if self.delta is None or self.delta.shape[1:] != x.shape[1:] or len(self.delta) < len(x):
            return torch.zeros_like(x)
        return self.delta.to(x.device)

    def _climb(self) -> None:
        if self._latest is not None and self.delta is not None:
            x, x_adv = self._latest
            if x_adv.grad is not None:
                steepest = self.threat.steepest(torch.nan_to_num(x_adv.grad))  # a scaled loss may overflow
                moved = self.threat.project(x_adv.detach() + self.step_size * steepest, x)
                self.delta = torch.cat([moved - x, self.delta[len(x) :]])
        self._latest = None

    def state_dict(self) -> dict[str, Any]:
        """Where the perturbation stands, that of this process's images."""
        self._climb()
        return {"delta": self.delta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.delta, self._latest = state["delta"], None


def free_at(threat: Threat, *, replays: int = 4, step_size: float | None = None) -> FreeAT:
    """Free adversarial training (Shafahi et al. 2019) by steps of ``step_size``, by default eps."""
    return FreeAT(threat, replays=replays, step_size=step_size)


def replays_of(objective: Objective) -> int:
    """How many optimiser steps an objective takes on each batch."""
    return objective.replays if isinstance(objective, FreeAT) else 1


def divergence(
    logits: Float[Tensor, "batch classes"], other: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """KL(softmax(logits) ‖ softmax(other)) of each image, in log space: its gradient is finite at any confidence."""
    log_p, log_q = F.log_softmax(logits, dim=1), F.log_softmax(other, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def _cross_entropy(logits: Float[Tensor, "batch classes"], y: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(logits, as_targets(y, *logits.shape), reduction=reduction)


def _check_beta(beta: float) -> None:
    if not beta >= 0:
        raise ValueError(f"beta={beta} must not be negative; TRADES uses 6, MART 5")
