"""The attacks that an evaluation can name, and what people call them and their parts."""

from typing import Literal, get_args

AttackName = Literal["clean", "fgsm", "pgd", "cw", "minimal", "autoattack", "settled"]
"""Clean images, then from the weakest attack to the strongest. ``harp.stages.attacks`` makes each."""
ATTACK_NAMES: tuple[str, ...] = get_args(AttackName)

_LABELS = {
    "clean": "Clean",
    "fgsm": "FGSM",
    "minimal": "Minimal",
    "autoattack": "AutoAttack",
    "settled": "AutoAttack, settled",
    "fmn": "FMN",
    "fmn-long": "FMN, long steps",
    "fab": "FAB",
    "ddn": "DDN",
    "apgd-ce": "APGD-CE",
    "apgd-t": "APGD-T",
    "fab-t": "FAB-T",
    "square": "Square",
    "rescaled": "Rescaled",
    "smooth": "Smooth",
    "square-again": "Square again",
    "transfer": "Transfer",
    "larger-starts": "Larger starts",
    "square-finer": "Finer Square",
}
_BY_STEPS = {"pgd": "PGD", "cw": "C&W"}


def attack_label(attack: str) -> str:
    """AutoAttack for "autoattack", PGD-20 for "pgd-20", C&W-20 for "cw-20"; an attack of the user's stays as it is."""
    family, _, steps = attack.partition("-")
    if steps.isdigit() and family in _BY_STEPS:
        return f"{_BY_STEPS[family]}-{steps}"
    return _LABELS.get(attack, attack)


def attack_order(attack: str) -> tuple[int, str]:
    """What sorts attacks from the weakest to the strongest; unknown ones stand beside AutoAttack."""
    family = attack.partition("-")[0]
    return ATTACK_NAMES.index(family if family in ATTACK_NAMES else "autoattack"), attack
