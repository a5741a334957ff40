"""Everything that attacks is ``(model, x, y) -> x_adv``."""

from .autoattack import AutoAttack, AutoAttackResult, autoattack
from .pgd import PGD, Attack, ascend, attacking, check_images, check_steps, cw_margin, fgsm
from .threat import Threat

__all__ = [
    "PGD",
    "Attack",
    "AutoAttack",
    "AutoAttackResult",
    "Threat",
    "ascend",
    "attacking",
    "autoattack",
    "check_images",
    "check_steps",
    "cw_margin",
    "fgsm",
]
