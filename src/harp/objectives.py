"""Everything that trains is ``(model, x, y) -> loss``, a scalar; images x in [0, 1].

Attacks are crafted in eval mode, the loss is taken in the mode the model is in.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .attacks import Attack, Threat, ascend, attacking, check_images, check_steps

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]


def natural() -> Objective:
    """Cross-entropy on the images as they are."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    return loss


def pgd_at(attack: Attack) -> Objective:
    """Adversarial training (Madry et al. 2018): cross-entropy on the attacked images."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(attack(model, x, y)), y)

    return loss


def n_fgsm(threat: Threat, *, noise: float = 2.0, step: float = 1.0) -> Objective:
    """N-FGSM (de Jorge et al. 2022): uniform noise of ``noise · eps``, one step of ``step · eps``, no clipping around x.

    Two passes a step instead of eleven, and no catastrophic overfitting at eps = 8/255. l∞ only.
    """
    if threat.norm != "linf":
        raise ValueError(f"n_fgsm is defined for norm 'linf', got {threat.norm!r}; use pgd_at")
    if not noise >= 0 or not step > 0:
        raise ValueError(f"noise={noise} must not be negative and step={step} must be positive; the paper uses 2 and 1")

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        check_images(x)
        start = x.detach() + torch.empty_like(x).uniform_(-noise * threat.eps, noise * threat.eps)
        with attacking(model), torch.enable_grad():
            start.requires_grad_(True)
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(start), y, reduction="sum"), start)
        x_adv = (start.detach() + step * threat.eps * gradient.sign()).clamp(0.0, 1.0)
        return F.cross_entropy(model(x_adv), y)

    return loss


def trades(threat: Threat, *, beta: float = 6.0, steps: int = 10, step_size: float | None = None) -> Objective:
    """TRADES (Zhang et al. 2019): CE(f(x), y) + β · KL(f(x) ‖ f(x')), x' crafted to maximise the KL term."""
    check_steps(steps, step_size)
    _check_beta(beta)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        check_images(x)
        with attacking(model):
            with torch.no_grad():
                clean = model(x)
            x_adv = ascend(
                lambda z: divergence(clean, model(z)).sum(),
                x.detach(),
                threat,
                steps=steps,
                step_size=step_size,
                # The KL term has no gradient at x itself.
                start=threat.project(x + 0.001 * torch.randn_like(x), x),
            )
        # One pass over both halves: batch-norm statistics are those of clean and attacked images together.
        logits, logits_adv = model(torch.cat([x, x_adv])).chunk(2)
        return F.cross_entropy(logits, y) + beta * divergence(logits, logits_adv).mean()

    return loss


def mart(attack: Attack, *, beta: float = 5.0) -> Objective:
    """MART (Wang et al. 2020): boosted CE on x' plus β · KL weighted by how unsure the model is of the clean image."""
    _check_beta(beta)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x_adv = attack(model, x, y)
        logits, logits_adv = model(torch.cat([x, x_adv])).chunk(2)
        strongest_wrong = F.softmax(logits_adv, dim=1).scatter(1, y[:, None], 0.0).amax(1)
        boosted = F.cross_entropy(logits_adv, y) - torch.log1p(1e-4 - strongest_wrong).mean()
        true = F.softmax(logits, dim=1).gather(1, y[:, None]).squeeze(1)
        return boosted + beta * (divergence(logits, logits_adv) * (1 - true)).mean()

    return loss


def divergence(
    logits: Float[Tensor, "batch classes"], other: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """KL(softmax(logits) ‖ softmax(other)) of each image, in log space: its gradient is finite at any confidence."""
    log_p, log_q = F.log_softmax(logits, dim=1), F.log_softmax(other, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def _check_beta(beta: float) -> None:
    if not beta >= 0:
        raise ValueError(f"beta={beta} must not be negative; TRADES uses 6, MART 5")
