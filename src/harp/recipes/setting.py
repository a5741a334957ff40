"""One setting of a recipe by its dotted name, from text: what a comparison varies to tune a method."""

from typing import Any

from harp.recipes.plain import from_json, to_json
from harp.recipes.settings import Recipe

STAGES = ("prune", "finetune")
_SHARED = {
    "prune.keep": "--keeps names the budgets",
    "prune.method": "--methods names the methods",
    "prune.granularity": "--granularities says what is pruned",
    "finetune.epochs": "it follows from the passes, which all methods get alike",
    "finetune.min_steps": "it follows from the passes, which all methods get alike",
    "prune.min_steps": "it follows from the passes, which all methods get alike",
}


def with_setting(recipe: Recipe, name: str, text: str) -> Recipe:
    """The recipe with ``text`` for the setting ``name``, such as ``"finetune.lr"``; every check of a recipe applies.

    Raises ValueError for a name that is no setting of pruning or finetuning, for one that cells cannot differ in, and
    for a value that does not fit.
    """
    stage, _, field = name.replace("-", "_").partition(".")
    whole = to_json(recipe)
    if stage not in STAGES or field not in whole[stage]:
        raise ValueError(f"{name!r} is no setting to tune: name one of a stage, such as finetune.lr or prune.lr")
    if (why := _SHARED.get(f"{stage}.{field}")) is not None:
        raise ValueError(f"{name!r} cannot be tuned: {why}")
    whole[stage][field] = _value(text)
    try:
        return from_json(Recipe, whole)
    except ValueError as error:
        raise ValueError(f"{name} {text}: {error}") from error


def _value(text: str) -> Any:
    """What JSON would have: numbers, fractions such as 8/255, true, false, none; any other text as it is."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else int(text) if text.lstrip("+-").isdigit() else float(text)
    except (ValueError, ZeroDivisionError):
        return text
