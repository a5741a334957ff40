"""Everything that attacks is ``(model, x, y) -> x_adv``."""

from .autoattack import AutoAttack, AutoAttackResult, autoattack
from .pgd import PGD, Attack, ascend, attacking, check_attack, check_images, check_steps, cw_margin, fgsm
from .threat import Threat, check_labels

__all__ = [
    "PGD",
    "Attack",
    "AutoAttack",
    "AutoAttackResult",
    "Threat",
    "ascend",
    "attacking",
    "autoattack",
    "check_attack",
    "check_images",
    "check_labels",
    "check_steps",
    "cw_margin",
    "fgsm",
]
