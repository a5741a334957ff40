"""Everything that attacks is ``(model, x, y) -> x_adv``."""

from harp.attacks.autoattack import AutoAttack, AutoAttackResult, autoattack
from harp.attacks.bounded import Bounded, bounded
from harp.attacks.guard import (
    as_images,
    as_labels,
    as_targets,
    attacking,
    check_images,
    check_module,
    dtype_of,
    logits_of,
)
from harp.attacks.minimal import Minimal
from harp.attacks.pgd import PGD, Attack, Named, ascend, check_attack, check_steps, cw_margin, fgsm
from harp.attacks.settled import Settled, settled
from harp.attacks.threat import Threat

__all__ = [
    "PGD",
    "Attack",
    "AutoAttack",
    "AutoAttackResult",
    "Bounded",
    "Minimal",
    "Named",
    "Settled",
    "Threat",
    "as_images",
    "as_labels",
    "as_targets",
    "ascend",
    "attacking",
    "autoattack",
    "bounded",
    "check_attack",
    "check_images",
    "check_module",
    "check_steps",
    "cw_margin",
    "dtype_of",
    "fgsm",
    "logits_of",
    "settled",
]
