"""A stage is as long as its epochs or its fewest steps say, on whatever number of images there are."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from harp.cost.passes import passes
from harp.recipes import PRESETS, Compute, Pruning, Recipe, Task, Training, few_steps, from_parent, in_epochs, steps_of
from harp.stages.pipeline import on_its_data, recipe_for
from harp.stages.train import pretrain
from harp.stages.watch import Watch

SMALL = {"batch_size": 18, "objective": "natural"}


@pytest.mark.parametrize(
    ("settings", "images", "epochs", "steps"),
    [
        (Training(epochs=6), 432, 6, 24),
        (Training(epochs=6, min_steps=300), 432, 75, 300),
        (Training(epochs=6, min_steps=301), 432, 76, 304),
        (Training(epochs=6, min_steps=300), 45_000, 6, 2112),
        (Training(epochs=1, min_steps=300, objective="free-at", replays=4), 432, 19, 304),
        (Training(epochs=2, min_steps=9), 129, 9, 9),  # a last batch of one is left out
        (Training(epochs=2, min_steps=9), 1, 9, 9),
    ],
)
def test_epochs_are_added_until_there_are_enough_steps(settings, images, epochs, steps):
    found = in_epochs(settings, images)
    assert (found.epochs, found.min_steps) == (epochs, 0)
    assert steps_of(settings, images) == steps


def test_a_small_folder_gets_enough_steps_in_every_stage_of_its_preset():
    recipe = PRESETS["folder-cpu"][1]
    for images in (50, 432, 2_000, 45_000):
        for stage in (recipe.pretrain, recipe.prune, recipe.finetune):
            assert few_steps(stage, images) is None


def test_the_presets_with_data_of_their_own_are_as_long_as_ever():
    """Their results, and the bits of the demo, do not move."""
    for name, images in {"digits": 1294, "fashion-mnist": 54_000, "cifar10-resnet18": 45_000}.items():
        recipe = PRESETS[name][1]
        assert from_parent(recipe, images) == recipe


def test_every_method_gets_the_passes_of_the_added_epochs():
    shared = from_parent(PRESETS["folder-cpu"][1], 432)
    costs = {method: passes(recipe_for(method, shared)).total for method in ("harp", "hydra", "lwm", "erk", "harp+awp")}
    assert costs["harp"] == costs["hydra"] == 2 * 2 * (63 + 100)
    assert all(costs["harp"] - 5 < cost <= costs["harp"] for cost in costs.values())


def test_passes_of_a_length_in_steps_are_not_made_up():
    with pytest.raises(ValueError, match=r"min_steps has no passes before it is known on how many images"):
        recipe_for("harp", PRESETS["folder-cpu"][1])


def recipe_of_tiny(**length: int) -> Recipe:
    """48 training images in three batches."""
    task = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
    stage = Training(**SMALL, **length)
    return Recipe(task, stage, Pruning(**SMALL, **length), stage, compute=Compute(device="cpu"))


def test_a_stage_runs_its_fewest_steps_and_goes_on_to_the_same_bits(tiny: Path):
    recipe = recipe_of_tiny(epochs=1, min_steps=10)
    assert on_its_data(recipe).prune.epochs == 4
    whole = pretrain(recipe, tiny / "whole")
    assert len(whole.metrics.read_text().splitlines()) == 4
    asked: list[int] = []

    def stop() -> bool:
        asked.append(0)
        return len(asked) == 9

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, tiny / "stopped", watch=Watch(should_stop=stop))
    assert pretrain(recipe, tiny / "stopped").model.read_bytes() == whole.model.read_bytes()
    by_epochs = pretrain(recipe_of_tiny(epochs=4), tiny / "epochs")
    assert by_epochs.model.read_bytes() == whole.model.read_bytes()


def test_a_stage_of_few_steps_says_so_before_it_starts(tiny: Path, caplog: pytest.LogCaptureFixture):
    said: list[str] = []

    def start(stage: str, what: str) -> None:
        said.extend(record.message for record in caplog.records)

    with caplog.at_level(logging.WARNING):
        pretrain(recipe_of_tiny(epochs=2), tiny / "short", watch=Watch(on_start=start))
    assert said[0].startswith("pretrain: 6 optimiser steps are few (2 epochs of 48 training images)")
    assert few_steps(replace(Training(**SMALL), epochs=40), 48) is None
