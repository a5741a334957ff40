"""How a method with its plug-ins is spelled: ``harp+s2ap+awp``. One line of the table a switch."""

from dataclasses import dataclass, fields, replace
from typing import Any

from harp.recipes.methods import LEARN_WEIGHTS, is_method, unknown
from harp.recipes.settings import Recipe


@dataclass(frozen=True)
class Switch:
    """A setting that turns a plug-in on in one stage: the value to take where the recipe has none of its own.

    ``of`` are the methods it is for; none is all.
    """

    stage: str
    field: str
    value: float
    of: tuple[str, ...] = ()

    def fits(self, method: str) -> bool:
        return not self.of or method in self.of


PLUG_INS = {
    "s2ap": (Switch("prune", "s2ap_rho", 0.01, of=("harp", "hydra")),),
    "awp": (Switch("finetune", "awp_gamma", 0.01), Switch("prune", "awp_gamma", 0.01, of=LEARN_WEIGHTS)),
}
"""In the order in which they are spelled."""


def normal_spelling(spelling: str) -> str:
    """The spelling with its plug-ins in the table's order. Raises ValueError naming what is not in the tables."""
    method, *plug_ins = spelling.split("+")
    if not is_method(method):
        raise ValueError(f"method={spelling!r}: {method!r} {unknown(method)}")
    for name in plug_ins:
        if name not in PLUG_INS:
            raise ValueError(f"method={spelling!r}: {name!r} is no plug-in; choose from {', '.join(PLUG_INS)}")
        if not any(switch.fits(method) for switch in PLUG_INS[name]):
            able = [other for switch in PLUG_INS[name] for other in switch.of if is_method(other)]
            raise ValueError(f"method={spelling!r}: {name} is for {' and '.join(able)}, not for {method}")
    if len(set(plug_ins)) < len(plug_ins):
        raise ValueError(f"method={spelling!r} names a plug-in twice")
    return "+".join([method, *(name for name in PLUG_INS if name in plug_ins)])


def respelled(recipe: Recipe, spelling: str) -> Recipe:
    """The recipe with this method and exactly these plug-ins; those that it has already keep their strength.

    Raises ValueError for a spelling that is none, and for a plug-in that this version does not have.
    """
    method, *wanted = normal_spelling(spelling).split("+")
    changes: dict[str, dict[str, Any]] = {"prune": {"method": method}, "finetune": {}}
    for name, switches in PLUG_INS.items():
        for switch in switches:
            stage = getattr(recipe, switch.stage)
            off = {field.name: field.default for field in fields(stage)}
            on = name in wanted and switch.fits(method)
            if switch.field in off:
                now = getattr(stage, switch.field)
                strength = switch.value if now == off[switch.field] else now
                changes[switch.stage][switch.field] = strength if on else off[switch.field]
            elif on:
                raise ValueError(f"method={spelling!r}: this version of harp has no {name}")
    return replace(recipe, **{stage: replace(getattr(recipe, stage), **new) for stage, new in changes.items()})
