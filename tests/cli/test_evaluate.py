"""``harp evaluate``: protocols, corruptions and the entry of a leaderboard, from the command line."""

import json
from pathlib import Path

import pytest

from harp.cards import Evaluation
from harp.cli import main
from harp.files import write_json
from harp.recipes import Compute, Recipe, Task, Training
from harp.stages.train import pretrain


@pytest.fixture
def dense(tiny: Path) -> Path:
    task = Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2)
    learn = Training(epochs=1, batch_size=18, objective="natural")
    return pretrain(Recipe(task, pretrain=learn, compute=Compute(device="cpu")), tiny / "dense").path


def test_an_entry_without_autoattack_is_refused_before_any_work(dense, capsys):
    before = (dense / "card.json").read_bytes()
    assert main(["evaluate", "dense", "--attack", "clean", "--json-robustbench", "entry.json"]) == 2
    assert "has no accuracy under AutoAttack: harp evaluate RUN --protocol robustbench" in capsys.readouterr().err
    assert (dense / "card.json").read_bytes() == before
    assert not Path("entry.json").exists()


def test_an_entry_is_written_from_what_the_card_has(dense):
    card = json.loads((dense / "card.json").read_text())
    known = Evaluation("autoattack", "linf", 8 / 255, 24, 12, 0, 1.0)
    write_json(dense / "card.json", {**card, "evaluations": [known.to_json()]})
    words = ["evaluate", "dense", "--attack", "clean", "--images", "24", "--json-robustbench", "entry.json"]
    assert main(words) == 0
    entry = json.loads(Path("entry.json").read_text())
    assert (entry["autoattack_acc"], entry["eps"]) == ("50.00", "8/255")
    assert float(entry["clean_acc"]) >= 0


def test_a_protocol_chooses_attack_radius_and_images(dense, capsys):
    assert main(["evaluate", "dense", "--protocol", "adversarial-pruning", "--dry-run"]) == 0
    said = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["clean", "autoattack linf 7.905/255", "evaluation", "clean", "minimal linf 7.905/255", "evaluation"]


def test_corruptions_are_a_line_below_the_table(dense, capsys):
    assert main(["evaluate", "dense", "--attack", "clean", "--images", "12", "--corruptions"]) == 0
    assert "of 12 under 15 corruptions, mean over 75 versions" in capsys.readouterr().out
