"""Every preset that ships: readable from its file, and good for a network that can be built, trained and pruned."""

import json

import pytest
import torch

import harp
from harp.attacks import Threat
from harp.models import build_model
from harp.pruning import METHODS
from harp.recipes import OWN_METHODS, PRESETS, Recipe, from_json, to_json
from harp.training.build import make_objective


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_file(name: str):
    recipe = PRESETS[name][1]
    assert from_json(Recipe, json.loads(json.dumps(to_json(recipe)))) == recipe


SHAPES = {"digits": (1, 8, 8), "fashion-mnist": (1, 28, 28), "imagenet": (3, 224, 224)}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_describes_a_network_that_can_be_built_trained_and_pruned(name: str):
    recipe = PRESETS[name][1]
    task = recipe.task
    mean_std = (task.mean, task.std) if task.mean else None
    with torch.device("meta"):  # shapes without memory: ResNet-50 as fast as the rest
        model = build_model(task.model, shape=SHAPES.get(task.data, (3, 32, 32)), classes=10, mean_std=mean_std)
    budget = harp.weight_budget(model, keep=recipe.prune.keep, exclude=recipe.prune.exclude)
    assert 0 < round(budget.keep * budget.total) < budget.total
    for stage in (recipe.pretrain, recipe.prune, recipe.finetune):
        make_objective(stage, Threat(task.norm, task.eps))


def test_the_methods_of_the_table_are_those_that_a_recipe_can_name():
    assert set(OWN_METHODS) == set(METHODS)
