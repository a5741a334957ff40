"""Everything that attacks is ``(model, x, y) -> x_adv``."""

from .pgd import PGD, Attack, ascend, attacking, cw_margin, fgsm
from .threat import Threat

__all__ = ["PGD", "Attack", "Threat", "ascend", "attacking", "cw_margin", "fgsm"]
