"""The ImageNet recipe from end to end, on a synthetic tree in ImageNet's layout: tiny photographs, a few steps a stage."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from harp import recipes
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.network import load_network
from harp.runs.opening import open_run
from harp.stages.evaluate import evaluate_run
from harp.stages.train import finetune, pretrain, prune


def grow(root: Path, split: str, photos: int) -> None:
    """Photographs of three classes, of sizes that all differ."""
    generator = torch.Generator().manual_seed(len(split))
    for label, name in enumerate(("n01440764", "n01443537", "n01484850")):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(photos):
            shape = (40 + 3 * number, 60 - number, 3)
            pixels = torch.randint(0, 120, shape, generator=generator, dtype=torch.uint8) + 60 * label
            Image.fromarray(pixels.numpy()).save(folder / f"{name}_{number}.JPEG")


def recipe(root: Path) -> recipes.Recipe:
    preset = recipes.PRESETS["imagenet-resnet50"][1]
    short = {"epochs": 1, "batch_size": 8, "lr": 1e-3}  # the recipe's is for batches of 256
    return replace(
        preset,
        task=replace(preset.task, root=root, image_size=32, validation=0.2),
        pretrain=replace(preset.pretrain, **short),
        prune=replace(preset.prune, **short, keep=0.1),
        finetune=replace(preset.finetune, **short),
        compute=replace(preset.compute, device="cpu", workers=2, threads=1),
    )


@pytest.mark.slow
def test_every_stage_of_the_imagenet_recipe_runs_from_a_folder(tmp_path: Path):
    grow(tmp_path / "imagenet", "train", 10)
    grow(tmp_path / "imagenet", "val", 4)
    mine = recipe(tmp_path / "imagenet")
    assert (mine.prune.objective, mine.prune.replays, mine.compute.precision) == ("free-at", 4, "bf16-mixed")
    dense = pretrain(mine, tmp_path / "dense").path
    masked = prune(mine, dense, tmp_path / "masks").path
    final = finetune(mine, masked, tmp_path / "final").path
    for run in (dense, masked, final):
        (record,) = map(json.loads, RunDirectory(run).metrics.read_text().splitlines())
        assert math.isfinite(record["loss"])
    card = json.loads(RunDirectory(final).card.read_text())
    assert card["kept"] == round(0.1 * card["total"])
    assert card["total"] > 23_000_000
    model = load_network(open_run(final), open_data(mine))
    before = load_network(open_run(masked), open_data(mine)).state_dict()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.endswith("original") for name in changed)  # the weights that stayed have learned
    assert not any(name.endswith("mask") for name in changed)
    clean, attacked = evaluate_run(final, recipes.Evaluating(attack="fgsm", images=12), mine.compute)
    assert clean.images == 12
    assert attacked.correct <= clean.correct
