"""Attacks of a stage that learns, on the sparse engine: the same stage to rounding, and the same bits when it goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harp.checkpoint import load_tensors
from harp.evaluation import Ranks
from harp.files import read_json
from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.runs.directory import RunDirectory
from harp.runtime.torch import SparseModule
from harp.stages import engine as engines
from harp.stages import weight_step
from harp.stages.attacked import Attacked
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import SILENT, Watch

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

TASK = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
NATURAL = Training(epochs=1, batch_size=12, objective="natural")
ON = {name: Compute(device="cpu", threads=1, engine=name) for name in ("torch", "sparse", "auto")}  # type: ignore[arg-type]


def recipe(on: str, objective: str = "pgd-at") -> Recipe:
    learn = {"epochs": 2, "batch_size": 12, "attack_steps": 3, "objective": objective}
    return Recipe(TASK, NATURAL, Pruning(keep=0.2, **learn), Training(**learn), compute=ON[on])


@pytest.fixture
def dense(tiny: Path) -> Path:
    return pretrain(recipe("torch"), tiny / "dense").path


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(RunDirectory(run).model)


def both(on: str, dense: Path, out: Path, objective: str = "pgd-at", watch: Watch = SILENT) -> dict[str, torch.Tensor]:
    masks = prune(recipe(on, objective), dense, out / "masks", watch=watch).path
    return weights(finetune(recipe(on, objective), masks, out / "final", watch=watch).path)


@pytest.mark.parametrize("objective", ["pgd-at", "trades", "mart", "n-fgsm"])
def test_a_stage_learns_what_it_learns_in_torch(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
):
    gradients, forward = [], SparseModule.forward

    def counted(module: SparseModule, x: torch.Tensor) -> torch.Tensor:
        gradients.append(x.requires_grad)
        return forward(module, x)

    monkeypatch.setattr(SparseModule, "forward", counted)
    there = both("torch", dense, tmp_path / "torch", objective)
    assert not gradients
    here = both("sparse", dense, tmp_path / "sparse", objective)
    steps = 2 * 2 * 4  # stages, epochs, batches of 12 of 48 images
    assert sum(gradients) >= steps * (1 if objective == "n-fgsm" else 3)
    for name, tensor in here.items():
        torch.testing.assert_close(tensor, there[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stage", ["masks", "final"])
@pytest.mark.parametrize("began", ["torch", "sparse"])
def test_a_stage_goes_on_with_what_it_began_with_and_ends_with_the_same_bits(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, began: str, stage: str
):
    monkeypatch.setattr(weight_step, "race", lambda *_: (1.0, 2.0))  # a choice of its own, not this test's
    monkeypatch.setattr(engines, "race", lambda *_: (1.0, 2.0) if began == "torch" else (2.0, 1.0))
    whole = both("auto", dense, tmp_path / "whole")
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return (tmp_path / "two" / stage).exists() and len(asked) % 3 == 0

    with pytest.raises(KeyboardInterrupt):
        both("auto", dense, tmp_path / "two", watch=replace(SILENT, should_stop=stop))
    monkeypatch.setattr(engines, "race", lambda *_: (1.0, 2.0) if began == "sparse" else (2.0, 1.0))
    run = RunDirectory(tmp_path / "two" / stage)
    assert run.resume.exists()
    if stage == "masks":
        prune(recipe("auto"), dense, run.path)
        again = weights(run.path)
        whole = weights(tmp_path / "whole" / "masks")
    else:
        finetune(recipe("auto"), tmp_path / "two" / "masks", run.path)
        again = weights(run.path)
    assert read_json(run.card)["engine"] == began
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())


def test_the_card_says_what_attacks_ran_on(dense: Path, tmp_path: Path):
    for on in ("torch", "sparse"):
        both(on, dense, tmp_path / on)
        assert read_json(tmp_path / on / "final" / "card.json")["engine"] == on
    assert read_json(dense / "card.json")["engine"] == "torch"


def test_an_objective_without_an_attack_of_its_own_says_that_it_needs_torch(dense: Path, tmp_path: Path):
    said: list[str] = []
    prune(recipe("sparse", "natural"), dense, tmp_path / "masks", watch=Watch(on_note=said.append))
    assert said == ["objective 'natural' makes no attack that the sparse engine could run"]


def test_the_time_of_reading_new_weights_is_shared_by_the_steps_of_an_attack(monkeypatch: pytest.MonkeyPatch):
    asked: list[int | None] = []

    def race(model: object, mirror: object, x: object, y: object, steps: int | None) -> tuple[float, float]:
        asked.append(steps)
        return 1.0, 2.0

    monkeypatch.setattr(engines, "race", race)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    attacked = Attacked("auto", 7, Ranks(), lambda text: None)
    x, y = torch.rand(4, 1, 4, 4), torch.arange(4) % 3
    assert attacked.engine() is None
    assert attacked.state_dict() == {"engine": None}
    assert attacked(model, x, y) is model
    assert attacked(model, x, y) is model
    assert asked == [7]
    assert attacked.state_dict() == {"engine": "torch"}
