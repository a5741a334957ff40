"""The commands that make a run again."""

from pathlib import Path
from typing import Any

import pytest

from harp.recipes import PRESETS, to_json


def recipe(preset: str = "digits", stage: str = "pretrain", **changes: dict[str, Any]) -> dict[str, Any]:
    plain = to_json(PRESETS[preset][1])
    for section, values in changes.items():
        plain[section] = plain[section] | values
    return {"stage": stage, "parent": None, "weights": None, "recipe": plain}


@pytest.fixture
def commands(page):
    def of(path: Path) -> list[str]:
        (block,) = [each for each in page([path]).all("details") if str(path) in each.text][-1].all("pre", "command")
        raw = "".join(child for child in block.one("code").children if isinstance(child, str))
        return [line.replace(str(path.parent), "runs") for line in raw.split("\n")]

    return of


def test_a_preset_is_named_when_nothing_else_was_chosen(fake, commands):
    run = fake("dense")
    run.recipe = recipe("cifar10-resnet18")
    assert commands(run.write()) == ["harp pretrain cifar10-resnet18 --out runs/dense"]


def test_settings_that_differ_from_the_preset_are_flags(fake, commands):
    run = fake("dense")
    run.recipe = recipe(pretrain={"epochs": 7, "clip_norm": 1.5}, task={"download": True, "mean": [0.5]}, compute={})
    (line,) = commands(run.write())
    assert line.startswith("harp pretrain digits ")
    for flag in (" --epochs 7", " --clip-norm 1.5", " --task.download", " --task.mean 0.5"):
        assert flag in line


def test_a_switch_that_was_turned_off_says_no(fake, commands):
    run = fake("dense")
    run.recipe = recipe(compute={"channels_last": False})
    assert commands(run.write()) == ["harp pretrain digits --compute.no-channels-last --out runs/dense"]


def test_a_prune_stage_starts_from_the_recipe_of_its_parent(fake, commands):
    dense = fake("dense")
    dense.recipe = recipe()
    dense.write()
    run = fake("masks", "harp", (10, 5, 5), stage="prune")
    run.recipe = recipe(stage="prune", prune={"keep": 0.01, "epochs": 3})
    assert commands(run.write()) == [
        "harp prune runs/dense --method harp --keep 0.01 --epochs 3 --out runs/masks"
        if to_json(PRESETS["digits"][1])["prune"]["epochs"] != 3
        else "harp prune runs/dense --method harp --keep 0.01 --out runs/masks"
    ]


def test_a_checkpoint_is_named_with_its_key_and_what_was_done_with_it(fake, commands):
    run = fake("dense")
    run.recipe = {**recipe(), "weights": "theirs.pt", "weights_key": "ema", "train_weights": True}
    assert "--weights theirs.pt --weights-key ema --train-weights --out" in commands(run.write())[0]


def test_without_a_recipe_the_card_says_what_it_knows(fake, commands):
    run = fake("masks", "harp", (10, 5, 5), stage="prune", seed=3)
    assert commands(run.write()) == ["harp prune runs/dense --method harp --keep 0.01 --seed 3 --out runs/masks"]


def test_each_attack_is_one_command_with_all_its_radii(fake, evaluation, commands):
    run = fake("dense")
    run.recipe = recipe()
    attacked = [evaluation("pgd-20", 500, eps=eps) for eps in (0.05, 0.1)]
    run.card["evaluations"] = [evaluation("clean", 900), *attacked, evaluation("autoattack", 200, 500, eps=0.1)]
    assert commands(run.write())[1:] == [
        "harp evaluate runs/dense --attack pgd --images 1000 --steps 20 --eps 0.05 0.1",
        "harp evaluate runs/dense --attack autoattack --images 500 --eps 0.1",
    ]


def test_clean_accuracy_alone_is_a_command_too(fake, evaluation, commands):
    run = fake("dense")
    run.card["evaluations"] = [evaluation("clean", 900)]
    assert commands(run.write())[1:] == ["harp evaluate runs/dense --attack clean --images 1000"]


def test_names_are_quoted_for_the_shell(fake, commands):
    run = fake("dense; rm -rf x")
    assert "'" in commands(run.write())[0].split("--out")[1]


@pytest.mark.parametrize("broken", [{"recipe": 3}, {"recipe": {"pretrain": [], "task": None}}, {"weights": 5}])
def test_a_recipe_of_another_shape_does_no_harm(fake, commands, broken: dict[str, Any]):
    run = fake("dense")
    run.recipe = broken
    assert commands(run.write())[0].startswith("harp pretrain ")


def test_an_evaluation_with_a_step_of_its_own_is_made_again_with_it(fake, evaluation, commands):
    run = fake("dense")
    fields = {"random_start": True, "restarts": 1, "chance": None}
    run.card["evaluations"] = [
        evaluation("pgd-10", 400, eps=0.1, step_size=0.01, **fields),
        evaluation("pgd-1", 400, eps=0.1, notes=["no random start"]),
    ]
    assert commands(run.write())[1:] == [
        "harp evaluate runs/dense --attack pgd --images 1000 --steps 10 --step-size 0.01 --eps 0.1",
        "harp evaluate runs/dense --attack fgsm --images 1000 --eps 0.1",
    ]


def test_distances_are_measured_at_one_radius_for_each_command_and_corruptions_have_their_own(
    fake, evaluation, commands
):
    run = fake("dense")
    run.recipe = recipe()
    run.card["evaluations"] = [evaluation("minimal", 2, 4, eps, distances=[0.3] * 4) for eps in (0.1, 0.2)]
    run.card["corruptions"] = {
        **{"images": 4, "counts": {"fog": [4]}, "by_image": [1] * 4, "accuracy": 1.0, "low": 1.0, "high": 1.0},
        **{"seed": 0, "elapsed_s": 1.0, "inputs": ""},
    }
    assert commands(run.write())[1:] == [
        "harp evaluate runs/dense --attack clean --images 4 --corruptions",
        "harp evaluate runs/dense --attack minimal --images 4 --eps 0.1",
        "harp evaluate runs/dense --attack minimal --images 4 --eps 0.2",
    ]
