"""What the whole job would take: every stage for every method, the evaluations, and their sum."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harp.dry_run.clock import Range
from harp.dry_run.evaluation import time_to_evaluate
from harp.dry_run.stages import Estimate, dry_run_prune_of, dry_run_stage
from harp.pruning import attach_masks, freeze_masks, masks
from harp.recipes import Recipe
from harp.runs.budget import make_budget
from harp.runs.images import open_data
from harp.runs.network import build_network
from harp.stages.pipeline import on_its_data, recipe_for


def dry_run_stages(recipe: Recipe, methods: Sequence[str]) -> Iterator[Estimate]:
    """Every stage of the whole job, on a network that was not trained: the time does not depend on it."""
    shared = on_its_data(recipe)
    recipes = [recipe_for(each, shared) for each in methods]
    data = open_data(recipes[0])
    network = build_network(recipes[0], data)
    yield dry_run_stage("pretrain", recipes[0], recipes[0].pretrain, copy.deepcopy(network), data)
    for recipe in recipes:
        pruned = copy.deepcopy(network)
        found = dry_run_prune_of(recipe, pruned, data)
        if found is not None:
            yield replace(found, stage=f"{recipe.prune.method}: prune")
        if not masks(pruned):
            attach_masks(pruned, make_budget(pruned, recipe.prune, data))
        what = f"{recipe.prune.method}: finetune"
        yield dry_run_stage(what, recipe, recipe.finetune, freeze_masks(pruned), data)


def dry_run_evaluations(recipe: Recipe, methods: int) -> Range:
    """Seconds to evaluate the dense network and that of each method."""
    pruned = time_to_evaluate(recipe)
    dense = pruned if recipe.compute.engine == "torch" else time_to_evaluate(recipe, pruned=False)
    return dense + pruned * methods


def whole(stages: Sequence[Estimate], evaluations: Range) -> Range:
    """Seconds of it all."""
    hours = sum(stage.hours for stage in stages)
    return evaluations + Range(hours, hours, hours) * 3600
