"""The step of the weights on the engine: what torch learns, to rounding, and the same bits when a stage goes on later."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.checkpoint import load_tensors
from harp.evaluation import Ranks
from harp.exporting import Learner
from harp.files import read_json
from harp.pruning import attach_frozen_masks
from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.runs.directory import RunDirectory
from harp.stages import engine, weight_step
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import SILENT, Watch
from harp.stages.weight_step import WeightStep, race

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

TASK = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
ON = {name: Compute(device="cpu", threads=1, engine=name) for name in ("torch", "sparse", "auto")}  # type: ignore[arg-type]


def recipe(on: str, objective: str = "pgd-at") -> Recipe:
    learn = Training(epochs=2, batch_size=12, attack_steps=2, objective=objective)  # type: ignore[arg-type]
    natural = Training(epochs=1, batch_size=12, objective="natural")
    return Recipe(TASK, natural, Pruning(keep=0.2, method="lwm"), learn, compute=ON[on])


@pytest.fixture
def pruned(tiny: Path) -> Path:
    pretrain(recipe("torch"), tiny / "dense")
    return prune(recipe("torch"), tiny / "dense", tiny / "masks").path


def learnt(
    on: str, parent: Path, out: Path, objective: str = "pgd-at", watch: Watch = SILENT
) -> dict[str, torch.Tensor]:
    return load_tensors(finetune(recipe(on, objective), parent, out, watch=watch).model)


@pytest.mark.parametrize("objective", ["pgd-at", "free-at"])
def test_finetuning_learns_what_it_learns_in_torch_and_says_so_once(
    pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
):
    used, entered = [], Learner.__call__
    monkeypatch.setattr(Learner, "__call__", lambda learner: used.append(1) or entered(learner))
    there = learnt("torch", pruned, tmp_path / "torch", objective)
    assert not used
    said: list[str] = []
    here = learnt("sparse", pruned, tmp_path / "sparse", objective, Watch(on_note=said.append))
    assert len(used) >= 2 * 4  # epochs, batches of 12 of 48 images
    assert sum("learn on the sparse engine" in each for each in said) == 1
    for name, tensor in here.items():
        torch.testing.assert_close(tensor, there[name], rtol=1e-3, atol=1e-4)
    for on in ("torch", "sparse"):
        assert read_json(tmp_path / on / "card.json")["weight_step"] == on


def test_finetuning_goes_on_with_what_it_began_with_and_ends_with_the_same_bits(
    pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def faster(which: str) -> None:
        monkeypatch.setattr(weight_step, "race", lambda *_: (1.0, 2.0) if which == "torch" else (2.0, 1.0))

    monkeypatch.setattr(engine, "race", lambda *_: (1.0, 2.0))
    faster("sparse")
    whole = learnt("auto", pruned, tmp_path / "whole")
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(KeyboardInterrupt):
        learnt("auto", pruned, tmp_path / "two", watch=replace(SILENT, should_stop=stop))
    faster("torch")
    assert RunDirectory(tmp_path / "two").resume.exists()
    again = learnt("auto", pruned, tmp_path / "two")
    assert read_json(tmp_path / "two" / "card.json")["weight_step"] == "sparse"
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten())
    chosen = torch.rand_like(model.get_parameter("0.weight")) < 0.1
    return attach_frozen_masks(model, {"0.weight": chosen}).train()


X, Y = torch.rand(6, 8, 4, 4), torch.arange(6) % 3


@pytest.mark.parametrize("wanted", ["sparse", "auto"])
@pytest.mark.parametrize("why", ["no convolution or linear layer", "it is not computed in 32 bits", "was compiled"])
def test_where_the_engine_cannot_the_reason_is_told_and_torch_computes(
    monkeypatch: pytest.MonkeyPatch, wanted: str, why: str
):
    model, said = network(), []
    if why.startswith("no"):
        model = nn.Sequential(nn.Conv2d(8, 8, 3))
    if why == "was compiled":
        monkeypatch.setattr(weight_step, "Learner", lambda model, threads: missing())
    step = WeightStep(wanted, Ranks(), said.append)
    with torch.autocast("cpu", torch.bfloat16, enabled="32 bits" in why), step(model, X, Y):
        assert not any("forward" in vars(module) for module in model.modules())
    assert step.name == "torch"
    assert len(said) == 1
    assert said[0].startswith("weights learn in torch: ")
    assert why in said[0]


def missing() -> Learner:
    raise RuntimeError("no engine was compiled")


@pytest.mark.parametrize("faster", ["torch", "sparse"])
def test_auto_takes_what_is_faster_and_says_so_once(monkeypatch: pytest.MonkeyPatch, faster: str):
    monkeypatch.setattr(weight_step, "race", lambda *_: (1.0, 2.0) if faster == "torch" else (2.0, 1.0))
    said: list[str] = []
    step, model = WeightStep("auto", Ranks(), said.append), network()
    assert step.state_dict() == {"engine": None}
    for _ in range(2):
        with step(model, X, Y):
            assert any("forward" in vars(module) for module in model.modules()) == (faster == "sparse")
    assert step.state_dict() == {"engine": faster}
    assert len(said) == 1
    assert "forward and back on 6 images takes 1 s there, 2 s in torch" in said[0] or faster == "torch"


def test_the_step_that_decides_leaves_gradients_statistics_and_random_numbers_as_they_were():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = WeightStep("auto", Ranks(), lambda text: None)
    losses = []
    for _ in range(2):  # the first decides
        torch.manual_seed(1)
        with step(model, X, Y):
            losses.append(F.cross_entropy(model(X), Y))
        model.load_state_dict(before)
    assert torch.equal(*losses)
    assert all(seconds > 0 for seconds in race(model, X, Y))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
