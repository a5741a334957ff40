"""What the engine cannot do is said before a stage begins, and nothing is written where it was asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harp.recipes import Compute, Pruning, Recipe, Task, Training
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

NETWORK = """
from torch import nn

def network(shape, classes):
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, classes))
"""


def recipe(on: str) -> Recipe:
    learn = Training(epochs=1, batch_size=24, attack_steps=1)
    task = Task(data="tiny:data", model="curved:network", eps=0.1, validation=0.2)
    pruning = Pruning(keep=0.2, method="lwm")
    return Recipe(task, learn, pruning, learn, compute=Compute(device="cpu", threads=1, engine=on))  # type: ignore[arg-type]


def test_an_operation_without_a_way_back_is_named_first(tiny: Path):
    (tiny / "curved.py").write_text(NETWORK, encoding="utf-8")
    pretrain(recipe("torch"), tiny / "dense")
    prune(recipe("torch"), tiny / "dense", tiny / "masks")
    with pytest.raises(ValueError, match=r"0 computes tanh, through which the engine has no way back.*'torch' can"):
        finetune(recipe("sparse"), tiny / "masks", tiny / "final")
    assert not (tiny / "final").exists()
    told: list[str] = []
    watch = Watch(on_note=told.append, on_start=lambda *_: told.append("begun"))
    finetune(recipe("auto"), tiny / "masks", tiny / "final", watch=watch)
    assert "attacks run in torch: 0 computes tanh" in told[0]
    assert told[1] == "begun"
    assert sum(each.startswith("attacks run") for each in told) == 1


@pytest.mark.parametrize("stage", [prune, finetune])
def test_an_exported_file_has_no_trainable_parent(tmp_path: Path, stage: Callable[..., object]):
    file = tmp_path / "network.harp"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="an exported network has no trainable parent in it; name the run"):
        stage(recipe("torch"), file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
