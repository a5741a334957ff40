"""What a stage leaves beside its model on demand: metrics elsewhere, the last weights, and extra images in its batches."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harp.checkpoint import load_tensors
from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch

FAST = {"epochs": 3, "batch_size": 16, "objective": "natural"}
RECIPE = Recipe(
    task=Task(data="tiny:data", model="tiny:network", validation=0.2),
    pretrain=Training(**FAST),
    prune=Pruning(**FAST, keep=0.25),
    finetune=Training(**FAST),
)


def with_log(name: str) -> Recipe:
    return replace(RECIPE, compute=Compute(log=name))


def interrupted(recipe: Recipe, out: Path) -> None:
    """Stop in the second epoch, then go on."""
    epochs: list[int] = []
    watch = Watch(on_epoch=lambda metrics: epochs.append(metrics.epoch), should_stop=lambda: len(epochs) == 2)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, out, watch=watch)
    pretrain(recipe, out)


def test_a_table_has_a_row_for_each_epoch_and_a_column_for_each_number(tiny: Path):
    dense = pretrain(with_log("csv"), tiny / "dense")
    masks = prune(with_log("csv"), dense.path, tiny / "masks")
    rows = list(csv.DictReader((masks.path / "metrics.csv").read_text().splitlines()))
    told = [json.loads(line) for line in masks.metrics.read_text().splitlines()]
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert [float(row["robust_accuracy"]) for row in rows] == [record["robust_accuracy"] for record in told]
    assert [float(row["layers/1.weight"]) for row in rows] == [record["layers"]["1.weight"] for record in told]


def test_tensorboard_gets_each_epoch_once_also_after_an_interruption(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[tuple[str, int]] = []

    class SummaryWriter:
        def __init__(self, log_dir: str):
            written.clear()  # the folder is made anew
            self.folder = Path(log_dir)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def flush(self) -> None:
            self.folder.mkdir(exist_ok=True)

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    interrupted(with_log("tensorboard"), tiny / "dense")
    assert [step for name, step in written if name == "loss"] == [0, 1, 2]
    assert (tiny / "dense" / "tensorboard").is_dir()
    pretrain(with_log("csv"), tiny / "dense", overwrite=True)
    assert not (tiny / "dense" / "tensorboard").exists()  # it was part of that run


def test_wandb_gets_the_recipe_and_each_epoch(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    begun: list[dict[str, Any]] = []
    logged: list[tuple[int, float]] = []
    session = SimpleNamespace(log=lambda numbers, step: logged.append((step, numbers["lr"])))
    package = SimpleNamespace(init=lambda **given: begun.append(given) or session)
    monkeypatch.setitem(sys.modules, "wandb", package)
    pretrain(with_log("wandb"), tiny / "dense")
    assert begun[0]["name"] == "dense pretrain"
    assert begun[0]["config"]["task"]["data"] == "tiny:data"
    assert [step for step, _ in logged] == [0, 1, 2]


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing_is_named_before_any_work(name: str, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(ValueError, match=rf"log='{name}' needs the package {name}, .*pip install '\.\[{name}\]'"):
        pretrain(with_log(name), tiny / "dense")
    assert not (tiny / "dense").exists()


def test_a_run_may_be_logged_elsewhere_and_stays_that_run(tiny: Path):
    first = pretrain(RECIPE, tiny / "dense").model.read_bytes()
    assert pretrain(with_log("csv"), tiny / "dense").model.read_bytes() == first


# The last weights


def test_the_last_weights_are_saved_beside_the_best_under_the_same_masks(tiny: Path):
    recipe = replace(
        RECIPE,
        pretrain=Training(**FAST, keep_last=True),
        prune=Pruning(**FAST, keep=0.25, keep_last=True),
        finetune=Training(**FAST, lr=1.0, schedule="constant", ema=0.9, keep_last=True),
    )
    dense = pretrain(recipe, tiny / "dense")
    masks = prune(recipe, dense.path, tiny / "masks")
    final = finetune(recipe, masks.path, tiny / "final")
    for run in (dense, masks, final):
        best, last = load_tensors(run.model), load_tensors(run.last)
        assert best.keys() == last.keys()
        if run is not dense:
            kept = sum(int(last[name].count_nonzero()) for name in ("1.weight", "5.weight"))
            assert kept == 42
    removed = load_tensors(final.masks)
    best, last = load_tensors(final.model), load_tensors(final.last)
    assert all((last[name][~mask] == 0).all() for name, mask in removed.items())
    assert any(not torch.equal(best[name], last[name]) for name in best)  # the best one is an average
    plain = finetune(replace(recipe, finetune=replace(recipe.finetune, keep_last=False)), masks.path, tiny / "plain")
    assert not plain.last.exists()
    assert plain.model.read_bytes() == final.model.read_bytes()


# Extra images


def test_a_stage_trains_on_extra_images_and_goes_on_to_the_same_bits(tiny: Path):
    np.savez("more.npz", image=np.full((9, 1, 4, 4), 0.5, dtype=np.float32), label=np.arange(9) % 3)
    recipe = replace(RECIPE, pretrain=Training(**FAST, extra=Path("more.npz"), extra_share=0.25))
    plain, mixed = pretrain(RECIPE, tiny / "plain"), pretrain(recipe, tiny / "mixed")
    assert plain.model.read_bytes() != mixed.model.read_bytes()
    interrupted(recipe, tiny / "again")
    assert (tiny / "again" / "model.safetensors").read_bytes() == mixed.model.read_bytes()
    with pytest.raises(ValueError, match=r"extra=none\.npz is not a file"):
        pretrain(replace(RECIPE, pretrain=Training(**FAST, extra=Path("none.npz"))), tiny / "none")
    assert not (tiny / "none").exists()
