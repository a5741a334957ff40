"""The whole job: one robust parent, then every method pruned, finetuned and judged on the same budget of passes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .checkpoint import RunDirectory
from .claims import OtherRun
from .judging import attacks_of, judge
from .pruning import METHODS
from .recipes import MethodName, Recipe
from .stages import SILENT, Watch, finetune, pretrain, prune


def run_all(
    recipe: Recipe, methods: Sequence[MethodName], out: Path, *, overwrite: bool = False, watch: Watch = SILENT
) -> list[Path]:
    """Run all stages for each method from one parent; the finished networks, dense first. Interrupted, it goes on.

    ``overwrite`` replaces runs of other settings; what is finished with the same ones stays.
    """

    def once(stage: Callable[..., RunDirectory], *arguments: Any) -> Path:
        try:
            return stage(*arguments, watch=watch).path
        except OtherRun:
            if not overwrite:
                raise
            return stage(*arguments, overwrite=True, watch=watch).path

    attacks_of(recipe.test, recipe)  # an impossible radius should not be found out at the end
    parent = once(pretrain, recipe, out / "dense")
    finals = [parent]
    for method in dict.fromkeys(methods):
        mine = recipe_for(method, recipe)
        masked = once(prune, mine, parent, out / f"{method}-masks")
        finals.append(once(finetune, mine, masked, out / method))
    for final in finals:
        judge(final, recipe.test, recipe.compute, watch=watch)
    return finals


def recipe_for(method: MethodName, recipe: Recipe) -> Recipe:
    """The recipe with this method, and as many passes over the images as any other.

    A method that learns no masks spends the passes of the prune stage on finetuning.
    """
    mine = replace(recipe, prune=replace(recipe.prune, method=method))
    if METHODS[method].learn:
        return mine
    return replace(mine, finetune=replace(recipe.finetune, epochs=recipe.finetune.epochs + recipe.prune.epochs))
