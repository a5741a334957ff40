"""--dry-run: counts by hand, times that were measured, and not a file written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.cli import main
from harp.dry_run.clock import Range
from harp.dry_run.job import dry_run_stages, whole
from harp.dry_run.stages import (
    dry_run_finetune,
    dry_run_pretrain,
    dry_run_prune,
    macs_and_activations,
)
from harp.pruning import attach_masks, weight_budget
from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.stages.train import pretrain, prune

FAST = {"epochs": 2, "batch_size": 30, "attack_steps": 1}
TINY = Recipe(
    task=Task(data="tiny:data", model="tiny:network", eps=0.1),
    pretrain=Training(**FAST),
    prune=Pruning(**FAST, keep=0.5),
    finetune=Training(**FAST),
    compute=Compute(device="cpu", threads=1),
)


def test_operations_and_activations_of_one_image_by_hand():
    """8 filters of 3×3 on 2×2 places: 288 MACs, 32 numbers; then 32·3. The mask of a weight is no layer."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    assert macs_and_activations(model, (1, 4, 4), torch.device("cpu")) == (8 * 9 * 4 + 96, 3 * 32 + 3)
    attach_masks(model, weight_budget(model, keep=0.5))
    assert macs_and_activations(model, (1, 4, 4), torch.device("cpu")) == (8 * 9 * 4 + 96, 3 * 32 + 3)


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if "__pycache__" not in path.parts}


def test_every_stage_is_estimated_and_nothing_is_written(tiny: Path):
    dense = pretrain(TINY, Path("dense")).path
    masked = prune(replace(TINY, prune=replace(TINY.prune, method="lwm")), dense, Path("masked")).path
    before = files(tiny)
    found = [dry_run_pretrain(TINY), dry_run_prune(TINY, dense), dry_run_finetune(TINY, masked)]
    assert [each.stage for each in found] == ["pretrain", "prune", "finetune"]
    for each in found:
        assert each.work.images == 54  # a tenth of 60 is for validation
        assert each.work.batches == 4
        assert each.batch_s > 0
        assert each.validation_s > 0
        assert each.hours == pytest.approx((4 * each.batch_s + 2 * each.validation_s) / 3600)
        assert each.peak_memory_bytes is not None
        assert each.peak_memory_bytes > 1e7
    assert dry_run_prune(replace(TINY, prune=replace(TINY.prune, method="lwm")), dense) is None
    assert files(tiny) == before


def test_a_whole_run_is_estimated_method_by_method(tiny: Path):
    stages = [each.stage for each in dry_run_stages(TINY, ("harp", "lwm", "r-admm"))]
    assert stages == ["pretrain", "harp: prune", "harp: finetune", "lwm: finetune", "r-admm: prune", "r-admm: finetune"]


def test_the_whole_is_the_sum_of_stages_and_evaluations(tiny: Path):
    stage = dry_run_pretrain(TINY)
    assert stage is not None
    total = whole([stage, stage], Range(1.0, 2.0, 3.0))
    assert (total.low, total.expected, total.high) == pytest.approx(tuple(7200 * stage.hours + s for s in (1, 2, 3)))


def test_the_command_line_prints_it(tiny: Path, capsys):
    before = files(tiny)
    task = ("--task.data", "tiny:data", "--task.model", "tiny:network", "--compute.threads", "1")
    assert main(["pretrain", "digits", *task, "--epochs", "3", "--out", "never", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "pretrain: 3 epochs of 54 images, 3 batches of 64" in said
    assert "by number of devices       1: " in said
    assert main(["prune", "never", "--out", "no", "--dry-run"]) == 2
    capsys.readouterr()
    existing = ("pretrain", "digits", *task, "--out", "never", "--dry-run", "--weights")
    assert main([*existing, "tiny.py"]) == 0
    assert capsys.readouterr().out == "pretrain: no training, done at once\n"
    assert main([*existing, "nowhere.pt"]) == 2
    assert "weights=nowhere.pt is not a file" in capsys.readouterr().err
    assert files(tiny) == before


def test_several_devices_are_estimated_by_the_share_of_one(tiny: Path):
    alone = dry_run_pretrain(TINY)
    three = dry_run_pretrain(replace(TINY, compute=replace(TINY.compute, devices=3)))
    assert (alone.devices, three.devices) == (1, 3)
    assert three.work == alone.work
