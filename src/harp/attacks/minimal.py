"""For each image the nearest one that fools the network: FMN, and FAB or DDN beside it. The nearest of all counts.

FMN is that of Pintor et al. 2021, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", run with two lengths of
steps; DDN that of Rony et al. 2019; FAB (Croce and Hein 2020) is the authors' own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor, nn

from harp.attacks.autoattack import NORMS, classified, seeded
from harp.attacks.guard import as_images, as_labels, attacking, logits_of, single
from harp.attacks.pgd import cross_entropy, cw_margin
from harp.attacks.threat import Threat, unit_l2

_GAMMA = 0.05, 0.001
"""By which share FMN and DDN change the radius, at first and in the end."""
_LAST_STEP = 0.01
"""Of the first step, in the end."""
_LENGTHS = {"fmn": 1.0, "fmn-long": 10.0}
"""The first steps of FMN; the authors tune them by norm and data."""
_FAB_TARGETS = 3
_HALVINGS = 8
"""Of the way back to the clean image, at the end."""

_Ask = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Minimal:
    """The nearest image that fools the network, for each image. ``threat.eps`` is where accuracy is read off.

    ``steps`` are those of each run. Gradients that mislead make distances too large, as they do accuracies.
    """

    threat: Threat
    steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps={self.steps} must be at least 2")

    @property
    def name(self) -> str:
        return "minimal"

    @property
    def parts(self) -> tuple[str, ...]:
        """The attacks, in order."""
        return (*_LENGTHS, "fab" if self.threat.norm == "linf" else "ddn")

    def cost(self, name: str, classes: int) -> int:
        """About how many passes one image costs, forward or backward."""
        runs = min(_FAB_TARGETS, classes - 1) * 3 / 2 if name == "fab" else 1
        return round(2 * runs * self.steps) + _HALVINGS + 1

    def part_once(self, name: str, model: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "batch channels h w"]:
        """One attack on one batch: the nearest images that it found, and where it found none, the image itself."""
        x = as_images(model, x)
        with attacking(model), seeded(self.seed), torch.no_grad():
            classes = logits_of(model, x[:1]).shape[1]
            y, images = as_labels(y, len(x), classes), single(x).contiguous()
            ask = partial(logits_of, model)
            if name == "fab":
                found = self._fab(ask, images, y, classes)
            elif name == "ddn":
                found = _ddn(ask, images, y, self.steps)
            else:
                found = _fmn(ask, images, y, self.threat.norm, self.steps, _LENGTHS[name])
            return _nearer(ask, images, found, y).to(x.dtype)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "batch channels h w"]:
        """The nearest of all that its attacks find."""
        best, least = x.clone(), torch.full((len(x),), math.inf, device=x.device, dtype=torch.double)
        for name in self.parts:
            found = self.part_once(name, model, x, y)
            with torch.no_grad():
                away = distances(found, x, self.threat.norm)
                closer = ~classified(logits_of(model, found), y) & (away < least)
            best[closer], least[closer] = found[closer], away[closer]
        return best

    def _fab(self, ask: _Ask, x: Tensor, y: Tensor, classes: int) -> Tensor:
        fab = FABAttack_PT(
            ask, norm=NORMS[self.threat.norm], n_iter=self.steps, eps=1.0, targeted=True, device=x.device
        )
        best = _Best(x, y, self.threat.norm)
        for target in range(2, 2 + min(_FAB_TARGETS, classes - 1)):
            fab.target_class = target
            found = fab.attack_single_run(x, y, use_rand_start=False, is_targeted=True).clamp(0.0, 1.0)
            best.offer(found, ~classified(ask(found), y))
        return best.images


class _Best:
    """The nearest image found so far that fools the network, of each of a batch."""

    def __init__(self, x: Tensor, y: Tensor, norm: str):
        self.x, self.y, self.norm = x, y, norm
        self.images, self.length = x.clone(), torch.full((len(x),), math.inf, device=x.device, dtype=torch.double)

    def offer(self, found: Tensor, fooled: Bool[Tensor, " batch"]) -> None:
        away = distances(found, self.x, self.norm)
        nearer = fooled & (away < self.length)
        self.images[nearer], self.length[nearer] = found[nearer], away[nearer]


def distances(x_adv: Tensor, x: Tensor, norm: str) -> Float[Tensor, " batch"]:
    """How far each image is from the other, in double precision."""
    delta = (x_adv.double() - x.double()).flatten(1)
    return delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)


def _fmn(ask: _Ask, x: Tensor, y: Tensor, norm: str, steps: int, length: float) -> Tensor:
    """Walk to the boundary inside a ball that shrinks while the image fools the network, and grows while it does not."""
    best, x_adv = _Best(x, y, norm), x.clone()
    radius = torch.full((len(x),), math.inf, device=x.device, dtype=x.dtype)
    for step in range(steps):
        size, gamma = _cosine(length, length * _LAST_STEP, step, steps), _cosine(*_GAMMA, step, steps)
        margin, gradient, fooled = _look(ask, x_adv, y)
        best.offer(x_adv, fooled)
        slope = gradient.flatten(1).norm(p=1 if norm == "linf" else 2, dim=1).clamp_min(1e-12)
        away = distances(x_adv, x, norm).to(x.dtype)
        before = torch.where(best.length.isfinite(), radius * (1 + gamma), away + margin.abs() / slope)
        radius = torch.where(fooled, torch.minimum(radius, best.length.to(x.dtype)) * (1 - gamma), before)
        x_adv = _into(x_adv + size * unit_l2(gradient), x, radius, norm)
    best.offer(x_adv, ~classified(ask(x_adv), y))
    return best.images


def _ddn(ask: _Ask, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Direction and length apart: step up the cross-entropy, then set the length to a radius that shrinks or grows."""
    best, x_adv = _Best(x, y, "l2"), x.clone()
    radius = torch.ones(len(x), device=x.device, dtype=x.dtype)
    for step in range(steps):
        _, gradient, fooled = _look(ask, x_adv, y, cross_entropy)
        best.offer(x_adv, fooled)
        radius = torch.where(fooled, radius * (1 - _GAMMA[0]), radius * (1 + _GAMMA[0]))
        moved = x_adv - x + _cosine(1.0, _LAST_STEP, step, steps) * unit_l2(gradient)
        x_adv = (x + unit_l2(moved) * radius.view(-1, 1, 1, 1)).clamp(0.0, 1.0)
    best.offer(x_adv, ~classified(ask(x_adv), y))
    return best.images


def _look(ask: _Ask, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor] = cw_margin):
    """The loss of each image, its gradient, and whether it fools the network."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        logits = ask(x)
        values = loss(logits, y)
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient, ~classified(logits.detach(), y)


def _into(x_adv: Tensor, x: Tensor, radius: Tensor, norm: str) -> Tensor:
    """Into the ball of each image, and into [0, 1]."""
    room, delta = radius.view(-1, 1, 1, 1), x_adv - x
    if norm == "linf":
        return (x + torch.minimum(torch.maximum(delta, -room), room)).clamp(0.0, 1.0)
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return (x + delta * (room / length).clamp_max(1.0)).clamp(0.0, 1.0)


def _nearer(ask: _Ask, x: Tensor, found: Tensor, y: Tensor) -> Tensor:
    """As far back towards the clean image as the network stays fooled."""
    best, low = found, torch.zeros(len(x), device=x.device, dtype=x.dtype)
    high = torch.ones_like(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = (x + middle.view(-1, 1, 1, 1) * (found - x)).clamp(0.0, 1.0)
        fooled = ~classified(ask(tried), y)
        best = torch.where(fooled.view(-1, 1, 1, 1), tried, best)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return best


def _cosine(first: float, last: float, step: int, steps: int) -> float:
    """From the first value to the last along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / max(steps - 1, 1))) / 2
