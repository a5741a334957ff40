"""Everything that attacks is ``(model, x, y) -> x_adv``."""

from .autoattack import AutoAttack, AutoAttackResult, autoattack
from .guard import as_images, as_labels, attacking, check_images, check_module, dtype_of, logits_of
from .pgd import PGD, Attack, ascend, check_attack, check_steps, cw_margin, fgsm
from .threat import Threat

__all__ = [
    "PGD",
    "Attack",
    "AutoAttack",
    "AutoAttackResult",
    "Threat",
    "as_images",
    "as_labels",
    "ascend",
    "attacking",
    "autoattack",
    "check_attack",
    "check_images",
    "check_module",
    "check_steps",
    "cw_margin",
    "dtype_of",
    "fgsm",
    "logits_of",
]
