"""What is tried on images that withstood AutoAttack when something says that it was blind: one function per remedy.

Each is ``(trial, x, y) -> images``, where what was found is an image that fools the network, and the rest is anything.
Whoever calls brings the images inside the ball and asks the network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from harp.attacks.autoattack import NORMS, AutoAttack
from harp.attacks.guard import attacking, logits_of
from harp.attacks.surrogate import SmoothGradients
from harp.attacks.threat import Threat

RESTARTS = 5
"""Of APGD on the cross-entropy of rescaled logits."""
WIDER = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Radii of the larger starts, in eps, each with its share of the iterations; the last is the ball itself."""
WIDER_RESTARTS = 3
FINER = 0.3
"""Of the image, the share that the last Square changes at first; the standard is 0.8."""

_Ask = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Trial:
    """One network under AutoAttack's settings, and the dense network that it was pruned from, if that is known."""

    attack: AutoAttack
    model: nn.Module
    parent: nn.Module | None
    seed: int


def rescaled(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    """APGD on the cross-entropy of logits brought to a margin of about one, where it cannot saturate."""
    return _apgd(trial, _rescaled(trial.model, x), "ce", RESTARTS).perturb(x, y)


def smooth(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    """The same through dead units and rounding, then APGD towards other classes on those that are left."""
    found = _apgd(trial, _rescaled(trial.model, x, smoothly=True), "ce", RESTARTS).perturb(x, y)
    classes = logits_of(trial.model, x[:1]).shape[1]
    left = _still_right(trial.model, found, y)
    if classes < 4 or not len(left):
        return found
    targeted = APGDAttack_targeted(
        _smoothly(lambda images: logits_of(trial.model, images)),
        n_iter=trial.attack.iterations,
        n_target_classes=trial.attack.targets(classes),
        norm=NORMS[trial.attack.threat.norm],
        eps=trial.attack.threat.eps,
        seed=trial.seed,
        device=x.device,
    )
    found[left] = targeted.perturb(x[left], y[left])
    return found


def transfer(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    """Start from what APGD makes of these images on the dense parent."""
    if trial.parent is None:
        return x.clone()
    with attacking(trial.parent):
        start = _apgd(trial, _rescaled(trial.parent, x), "ce", 1).perturb(x, y, best_loss=True)
    return _from(trial, x, y, start)


def larger_starts(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    """Start in a ball of three times the radius, which shrinks to the real one."""
    found = x.clone()
    for restart in range(WIDER_RESTARTS):
        left = _still_right(trial.model, found, y)
        if len(left):
            torch.manual_seed((trial.seed + restart) % 2**63)
            found[left] = _shrinking(trial, x[left], y[left])
    return found


def square_again(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    """Square anew, with other random numbers."""
    return _square(trial, x, 0.8).perturb(x, y)


def square_finer(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    """Square anew, with smaller squares from the beginning."""
    return _square(trial, x, FINER).perturb(x, y)


def _rescaled(model: nn.Module, x: Tensor, *, smoothly: bool = False) -> _Ask:
    """The logits over their typical margin on these images; of a network that answers probabilities, their logarithms."""

    def logits(images: Tensor) -> Tensor:
        answer = logits_of(model, images)
        return answer.clamp_min(torch.finfo(answer.dtype).tiny).log() if flat else answer

    first = logits_of(model, x)
    flat = bool((first >= 0).all()) and torch.allclose(first.sum(1), torch.ones_like(first[:, 0]), atol=1e-5)
    best = logits(x).topk(2, dim=1).values
    margin = (best[:, 0] - best[:, 1]).median().clamp_min(torch.finfo(best.dtype).tiny)

    def ask(images: Tensor) -> Tensor:
        return logits(images) / margin

    return _smoothly(ask) if smoothly else ask


def _smoothly(ask: _Ask) -> _Ask:
    def through(images: Tensor) -> Tensor:
        with SmoothGradients():
            return ask(images)

    return through


def _apgd(
    trial: Trial, ask: _Ask, loss: str, restarts: int, *, eps: float | None = None, steps: int | None = None
) -> APGDAttack:
    threat = trial.attack.threat
    return APGDAttack(
        ask,
        n_iter=trial.attack.iterations if steps is None else steps,
        loss=loss,
        n_restarts=restarts,
        norm=NORMS[threat.norm],
        eps=threat.eps if eps is None else eps,
        seed=trial.seed,
        rho=0.75,
    )


def _from(trial: Trial, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
    """One run of APGD from given points, through dead units."""
    apgd = _apgd(trial, _rescaled(trial.model, x, smoothly=True), "ce", 1)
    apgd.init_hyperparam(x)
    return apgd.attack_single_run(x, y, x_init=trial.attack.threat.project(start, x))[3]


def _shrinking(trial: Trial, x: Tensor, y: Tensor) -> Tensor:
    threat, ask = trial.attack.threat, _rescaled(trial.model, x, smoothly=True)
    start, found = None, x
    for times, share in WIDER:
        eps = times * threat.eps if threat.norm == "l2" else min(times * threat.eps, 1.0)
        steps = max(1, round(share * trial.attack.iterations))
        apgd = _apgd(trial, ask, "ce", 1, eps=eps, steps=steps)
        apgd.init_hyperparam(x)
        if start is not None:
            start = Threat(threat.norm, eps).project(start, x)
        start, _, _, found = apgd.attack_single_run(x, y, x_init=start)
    return found


def _square(trial: Trial, x: Tensor, p_init: float) -> SquareAttack:
    threat = trial.attack.threat
    return SquareAttack(
        lambda images: logits_of(trial.model, images),
        n_queries=trial.attack.queries,
        p_init=p_init,
        n_restarts=1,
        norm=NORMS[threat.norm],
        eps=threat.eps,
        seed=trial.seed,
        device=x.device,
    )


def _still_right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (logits_of(model, x).argmax(1) == y).nonzero()[:, 0]
