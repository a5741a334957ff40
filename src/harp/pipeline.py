"""The whole job: one robust parent, then every method pruned, finetuned and judged on the same budget of passes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .judging import judge
from .pruning import METHODS
from .recipes import Recipe
from .stages import SILENT, Watch, finetune, pretrain, prune


def run_all(recipe: Recipe, methods: Sequence[str], out: Path, *, watch: Watch = SILENT) -> list[Path]:
    """Run all stages for each method from one parent; the finished networks, dense first. Interrupted, it goes on."""
    parent = pretrain(recipe, out / "dense", watch=watch).path
    finals = [parent]
    for method in methods:
        mine = replace(recipe, prune=replace(recipe.prune, method=method))
        if not METHODS[method].learn:
            # A method that learns no masks spends the passes of the prune stage on finetuning: all get the same number.
            longer = recipe.finetune.epochs + recipe.prune.epochs
            mine = replace(mine, finetune=replace(recipe.finetune, epochs=longer))
        masked = prune(mine, parent, out / f"{method}-masks", watch=watch).path
        finals.append(finetune(mine, masked, out / method, watch=watch).path)
    for final in finals:
        judge(final, recipe.test, recipe.compute, watch=watch)
    return finals
