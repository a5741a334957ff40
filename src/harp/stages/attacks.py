"""The attacks that an evaluation names, made."""

from collections.abc import Callable, Mapping

from harp.attacks import PGD, AutoAttack, Minimal, Settled, Threat, autoattack, fgsm, settled
from harp.recipes import Evaluating, Recipe

Asked = PGD | AutoAttack | Settled | Minimal

_MAKE: Mapping[str, Callable[[Threat, Evaluating, int], Asked]] = {
    "fgsm": lambda threat, settings, seed: fgsm(threat),
    "pgd": lambda threat, settings, seed: PGD(threat, steps=settings.steps, step_size=settings.step_size),
    "cw": lambda threat, settings, seed: PGD(threat, steps=settings.steps, step_size=settings.step_size, loss="cw"),
    "minimal": lambda threat, settings, seed: Minimal(threat, seed=seed),
    "autoattack": lambda threat, settings, seed: autoattack(threat, seed=seed),
    "settled": lambda threat, settings, seed: settled(threat, seed=seed),
}
"""Every name of ``harp.recipes.AttackName`` but clean."""


def attacks_of(settings: Evaluating, recipe: Recipe) -> list[Asked | None]:
    """None, for the clean images, then the attack at each radius. Raises ValueError for a radius that is none."""
    radii = settings.eps or (recipe.task.eps,)
    if settings.attack == "clean":
        return [None]
    if settings.attack == "minimal" and len(set(radii)) > 1:
        raise ValueError(
            f"eps={settings.eps} must be one radius for attack='minimal': one run already gives the accuracy at every radius"
        )
    return [
        None,
        *(_MAKE[settings.attack](Threat(recipe.task.norm, eps), settings, recipe.seed) for eps in dict.fromkeys(radii)),
    ]


def how_of(attack: Asked | None) -> tuple[float | None, bool, int]:
    """What the name of an attack does not tell: length of a step, random start, restarts."""
    return (attack.step_size, attack.random_start, attack.restarts) if isinstance(attack, PGD) else (None, True, 1)


def name_of(attack: Asked | None) -> str:
    return "clean" if attack is None else attack.name
