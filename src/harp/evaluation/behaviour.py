"""What must hold of any network under short attacks on a few images, and does not where attacks are misled.

The checks of Carlini et al. 2019 and of the list that AutoAttack's authors ask for. They change no result.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from harp.attacks import PGD, Threat, as_labels, logits_of
from harp.attacks.autoattack import classified, seeded
from harp.attacks.settled import OTHER
from harp.evaluation.notes import Note

_IMAGES = 16
"""Images that are attacked for it."""
_FEW, _MANY = 4, 12
"""Steps of a short attack and of a longer one."""
_SLACK = 2
"""So many images may differ by the luck of a start."""


def misbehaving(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> list[Note]:
    """Each check that fails, as a sentence. Few images, so that only what is grossly wrong is seen."""
    logits = logits_of(model, x)
    y = as_labels(y, *logits.shape)
    chosen = classified(logits, y).nonzero()[:_IMAGES, 0]
    if not len(chosen) or threat.eps == 0:
        return []
    x, y = x[chosen], y[chosen]
    return [Note(text, OTHER) for text in (*_at_zero(model, x, y, threat), *_over_eps(model, x, y, threat))]


def _left(model: nn.Module, x: Tensor, y: Tensor, attack: PGD, seed: int = 0) -> Tensor:
    with seeded(seed), torch.enable_grad():
        x_adv = attack(model, x, y).detach()
    return classified(logits_of(model, x_adv), y)


def _at_zero(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> list[str]:
    """A ball of radius 0 holds the image alone."""
    left = int(_left(model, x, y, PGD(replace(threat, eps=0.0), steps=1, step_size=1.0)).sum())
    if left == len(x):
        return []
    return [f"at eps 0, where nothing may change, {len(x) - left} of {len(x)} images become wrong"]


def _over_eps(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> list[str]:
    """The accuracy under attack must not rise with eps, nor with steps, nor depend on the random start."""
    most = 1.0 if threat.norm == "linf" else float("inf")
    wider = replace(threat, eps=min(2 * threat.eps, most))
    near = _left(model, x, y, PGD(threat, steps=_FEW))
    far = int(_left(model, x, y, PGD(wider, steps=_FEW)).sum())
    longer = _left(model, x, y, PGD(threat, steps=_MANY))
    other = _left(model, x, y, PGD(threat, steps=_MANY), seed=1)
    said = []
    if far > int(near.sum()) + _SLACK:
        said.append(
            f"accuracy rises with eps: PGD leaves {int(near.sum())} of {len(x)} images at {threat}, {far} at {wider}"
        )
    if int(longer.sum()) > int(near.sum()) + _SLACK:
        said.append(
            f"more steps help the network: {_FEW} leave {int(near.sum())} of {len(x)} images right, {_MANY} leave {int(longer.sum())}"
        )
    if (changed := int((longer != other).sum())) > max(_SLACK, len(x) // 4):
        said.append(
            f"another random start changes the outcome at {changed} of {len(x)} images: one start is not enough for this network"
        )
    return said
