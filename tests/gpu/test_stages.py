"""Whole stages on a GPU beside the CPU: every method, what they keep, resume, the same bits twice, and evaluation.

Random numbers of a GPU are others, so accuracies of 48 images may differ by a sixth, and losses by a quarter.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpu_parts import DEVICE, THREAT, accuracies, images, need_gpu, recipe, seeded_network

import harp
from harp.attacks import PGD, AutoAttack, Minimal, fgsm
from harp.checkpoint import load_tensors
from harp.recipes import OWN_METHODS
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch

need_gpu()

ATTACKS = {
    "clean": None,
    "fgsm": fgsm(THREAT),
    "pgd": PGD(THREAT, steps=5),
    "cw": PGD(THREAT, steps=5, loss="cw", restarts=2),
    "autoattack": AutoAttack(THREAT, iterations=6, queries=40),
    "minimal": Minimal(THREAT, steps=6),
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dense network for each device."""
    out = tmp_path_factory.mktemp("dense")
    for device in {"cpu", DEVICE}:
        pretrain(recipe(device), out / device)
    return {device: out / device for device in ("cpu", DEVICE)}


def test_pretraining_learns_what_it_learns_on_the_cpu(dense: dict[str, Path]):
    mine, theirs = accuracies(dense[DEVICE]), accuracies(dense["cpu"])
    assert abs(mine[0] / theirs[0] - 1) < 0.25
    assert abs(mine[1] - theirs[1]) <= 1 / 6
    assert abs(mine[2] - theirs[2]) <= 1 / 6


@pytest.mark.parametrize("method", OWN_METHODS)
def test_every_method_prunes_to_the_budget_and_finetunes(method: str, dense: dict[str, Path], tmp_path: Path):
    made = {}
    for device in {"cpu", DEVICE}:
        asked = recipe(device)
        asked = replace(asked, prune=replace(asked.prune, method=method))
        run = finetune(asked, prune(asked, dense["cpu"], tmp_path / f"{device}-masks").path, tmp_path / device)
        made[device] = load_tensors(run.model)
    kept = {
        device: sum(int(t.count_nonzero()) for t in tensors.values() if t.dim() > 1) for device, tensors in made.items()
    }
    assert kept[DEVICE] == kept["cpu"]
    assert abs(accuracies(tmp_path / DEVICE)[0] / accuracies(tmp_path / "cpu")[0] - 1) < 0.25


COMPUTE = {
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16-mixed"},
    "fp16": {"precision": "16-mixed"},
    "channels first": {"channels_last": False},
    "compiled": {"compile": True},
}


@pytest.mark.parametrize("name", [name for name in COMPUTE if DEVICE == "cuda" or name not in ("fp16", "compiled")])
def test_every_way_to_compute_prunes_as_32_bits_do(name: str, dense: dict[str, Path], tmp_path: Path):
    plain, other = recipe(DEVICE), recipe(DEVICE, **COMPUTE[name])
    prune(plain, dense["cpu"], tmp_path / "plain")
    prune(other, dense["cpu"], tmp_path / "other")
    mine, theirs = accuracies(tmp_path / "other"), accuracies(tmp_path / "plain")
    assert abs(mine[0] / theirs[0] - 1) < 0.15
    assert abs(mine[1] - theirs[1]) <= 1 / 6


def test_deterministic_gives_the_same_bits_twice_stopped_or_not(dense: dict[str, Path], tmp_path: Path):
    asked = recipe(DEVICE, deterministic=True)
    runs = [prune(asked, dense["cpu"], tmp_path / name) for name in ("one", "two")]
    steps = iter([False] * 3 + [True])
    with pytest.raises(KeyboardInterrupt):
        prune(asked, dense["cpu"], tmp_path / "stopped", watch=replace(Watch(), should_stop=lambda: next(steps, False)))
    runs.append(prune(asked, dense["cpu"], tmp_path / "stopped"))
    first, *others = (load_tensors(run.model) for run in runs)
    for other in others:
        for name, tensor in first.items():
            assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("name", ATTACKS)
def test_every_evaluation_finds_what_it_finds_on_the_cpu(name: str):
    data = images(48, 1)
    theirs = harp.evaluate(seeded_network().eval(), data, ATTACKS[name], batch_size=20)
    mine = harp.evaluate(seeded_network().eval().to(DEVICE), data, ATTACKS[name], batch_size=20)
    assert abs(mine.accuracy - theirs.accuracy) <= (0.0 if name in ("clean", "fgsm") else 0.1)
