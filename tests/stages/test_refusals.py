"""What a later command will refuse is said before a network is trained, and saying it changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.stages import train as stages
from harp.stages.pipeline import run_all
from harp.stages.refusals import refusals
from harp.stages.watch import Watch

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ODD = """
from torch import nn

class Odd(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.conv, self.drop, self.head = nn.Conv2d(shape[0], 4, 3), nn.Dropout(0.2), nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.drop(self.conv(x).cumsum(2).relu().mean((2, 3))))
"""


class Cumulated(nn.Module):
    def forward(self, x):
        return x.cumsum(2)


class Branching(nn.Module):
    def forward(self, x):
        return x.relu() if x.sum() > 0 else x


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 5)).eval()


def test_of_a_plain_network_nothing_is_said():
    assert refusals(network(nn.ReLU()), IMAGE) == []


def test_an_operation_that_a_file_lacks_is_named_with_its_place():
    (said,) = refusals(network(Cumulated()), IMAGE)
    assert said.startswith("note: harp export will refuse this network as .harp: 1 (Cumulated) computes aten.cumsum")
    assert "format='onnx'" in said


def test_a_branch_on_the_images_is_refused_by_every_format_and_by_channels():
    export, channels = refusals(network(Branching()), IMAGE)
    assert export.startswith(
        "note: harp export will refuse this network, as .harp and as ONNX: torch.export cannot follow"
    )
    assert channels.startswith(
        "note: harp prune --granularity channel and harp shrink will refuse this network: 1 reads"
    )
    assert refusals(network(Branching()), IMAGE, channels=False) == [export]


def test_a_network_of_which_no_channel_can_go_hears_what_holds_them():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softmax(1), nn.Conv2d(8, 5, 6), nn.Flatten()).eval()
    assert "no channel can be removed, because of: 8 channels of 0 (softmax in 1)" in refusals(model, IMAGE)[-1]


def test_model_and_random_numbers_stay_as_they_are():
    model = network(nn.BatchNorm2d(8), nn.Dropout(), Cumulated()).train()
    before, state = torch.get_rng_state(), {name: t.clone() for name, t in model.state_dict().items()}
    refusals(model, IMAGE)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.fixture
def recipe(tiny: Path) -> Recipe:
    (tiny / "odd.py").write_text(ODD, encoding="utf-8")
    learn = Training(epochs=1, batch_size=18, attack_steps=1)
    task = Task(data="tiny:data", model="odd:Odd", eps=0.1, validation=0.2)
    return Recipe(
        task, pretrain=learn, prune=Pruning(method="lwm", keep=0.5), finetune=learn, compute=Compute(device="cpu")
    )


def test_stages_say_it_before_they_begin_and_train_the_same(recipe, monkeypatch):
    said: list[str] = []
    watch = Watch(on_note=said.append, on_start=lambda stage, what: said.append(stage))
    stages.pretrain(recipe, Path("dense"), watch=watch)
    stages.prune(recipe, Path("dense"), Path("masks"), watch=watch)
    assert [each.partition(":")[0] for each in said] == ["note", "pretrain", "note", "prune"]
    monkeypatch.setattr(stages, "note_refusals", lambda *_, **__: None)
    stages.pretrain(recipe, Path("silent"))
    assert Path("silent/model.safetensors").read_bytes() == Path("dense/model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_whole_job_says_it_once(recipe):
    said: list[str] = []
    quick = replace(recipe, test=replace(recipe.test, attack="pgd", steps=1, images=4))
    run_all(quick, ["lwm", "random"], Path("runs"), watch=Watch(on_note=said.append))
    assert len([each for each in said if "will refuse" in each]) == 1
