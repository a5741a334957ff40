"""The names that a pruning method may have: harp's own, those registered since, those that installed packages bring."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

ADMM = "r-admm"
"""The method that makes no masks while it learns: it moves weights."""
GMP = ("gmp", "gmp-erk", "gmp-lamp", "gmp-global")
"""The methods that prune little by little while weights learn."""
REGROW = ("flying-bird", "flying-bird-plus")
"""Those whose masks drop weights and grow others while weights learn."""
LEARN_WEIGHTS = (ADMM, *GMP, *REGROW)
"""Those in whose prune stage weights learn."""


@dataclass(frozen=True)
class OwnMethod:
    """A method of harp's in words."""

    label: str
    what: str


OWN_METHODS: Mapping[str, OwnMethod] = {
    "harp": OwnMethod("HARP", "scores and keep fractions learned together, under attack"),
    "harp-published": OwnMethod(
        "HARP as published", "… by the rule of the paper: growing penalty, gradients summed over layers"
    ),
    "hydra": OwnMethod("HYDRA", "scores learned, the same fraction of every layer"),
    "lwm": OwnMethod("LWM", "smallest weights go, the same fraction of every layer"),
    "global": OwnMethod("global magnitude", "smallest weights go, by one threshold for all layers"),
    "erk": OwnMethod("ERK", "smallest weights go, fractions by Erdős–Rényi-kernel"),
    "lamp": OwnMethod("LAMP", "smallest weights go, fractions by LAMP scores"),
    "random": OwnMethod("random", "chance decides: the control that knows nothing"),
    "rates-only": OwnMethod("rates only", "keep fractions learned, scores fixed"),
    "gmp": OwnMethod(
        "GMP", "smallest weights go little by little while the others learn, the same fraction of every layer"
    ),
    "gmp-erk": OwnMethod("GMP-ERK", "… fractions by Erdős–Rényi-kernel"),
    "gmp-lamp": OwnMethod("GMP-LAMP", "… fractions by LAMP scores"),
    "gmp-global": OwnMethod("GMP-global", "… by one threshold for all layers"),
    "flying-bird": OwnMethod("Flying Bird", "smallest weights go, those of largest gradient come, while weights learn"),
    "flying-bird-plus": OwnMethod(
        "Flying Bird+", "… and fewer are kept while the robust generalisation gap widens, more while accuracy falls"
    ),
    ADMM: OwnMethod("R-ADMM", "weights learned under a pull to the budget, then cut"),
}
"""harp's own, in the order in which they are listed and coloured."""
GROUP = "harp.methods"
"""The entry points by which a package brings methods: ``name = "package.module:METHOD"``."""
_FORM = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_registered: list[str] = []


def method_names() -> tuple[str, ...]:
    """Every name that a recipe may have for its method now."""
    return tuple(dict.fromkeys([*OWN_METHODS, *_registered, *sorted(brought())]))


def is_method(name: str) -> bool:
    """Whether a recipe may have this name. Packages are looked through only for one that is not known otherwise."""
    return name in OWN_METHODS or name in _registered or name in brought()


def register_name(name: str) -> None:
    """Let recipes have a method of this name. Raises ValueError for one that could not stand in a flag and a file name."""
    if not isinstance(name, str) or not _FORM.fullmatch(name):
        raise ValueError(f"name={name!r} must be lowercase letters and digits, joined by '-', e.g. 'my-method'")
    if name not in _registered:
        _registered.append(name)


def brought() -> dict[str, EntryPoint]:
    """What installed packages bring, by name; nothing of it is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def unknown(name: object) -> str:
    """What to say of a name that no method has."""
    known = ", ".join(map(repr, method_names()))
    return f"must be one of {known}; a method of your own is registered first (`--import package.module` on the command line)"
