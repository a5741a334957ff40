"""Attacks on the sparse engine: torch's answers count, and where the engine decides otherwise a note says so."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.cards import Evaluation
from harp.evaluation import evaluate
from harp.exporting import sparse_module
from harp.files import read_json, write_json
from harp.pruning import ERK, attach_masks, freeze_masks, weight_budget

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

THREAT = Threat("linf", 0.02)
ATTACKS = [PGD(THREAT, steps=4), AutoAttack(THREAT, iterations=5, queries=20)]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)).eval()
    attach_masks(made, weight_budget(made, keep=0.4), ERK)
    return freeze_masks(made)


@pytest.fixture
def data(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return images, model(images).argmax(1)


def timeless(found: Evaluation) -> Evaluation:
    return replace(found, elapsed_s=0.0)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_accuracy_is_that_of_torch(model, data, attack):
    there = evaluate(model, data, attack, batch_size=10)
    here = evaluate(model, data, attack, batch_size=10, engine=sparse_module(model, data[0]))
    assert 0 < there.correct < 30
    assert (here.right, here.per_attack, here.notes) == (there.right, there.per_attack, there.notes)
    assert (there.engine, here.engine) == ("torch", "sparse")


def test_torch_decides_and_the_differences_are_counted(model, data):
    with torch.no_grad():
        other = torch.nn.Sequential(*model)  # the same network with other weights, as if the engine erred
    biased = torch.nn.Sequential(*other[:4], nn.Linear(72, 5))
    engine = sparse_module(biased, data[0])
    with torch.no_grad():
        wrong = int((biased(data[0]).argmax(1) != data[1]).sum())
    found = evaluate(model, data, PGD(Threat("linf", 0.0)), batch_size=10, engine=engine)
    assert found.correct == 30
    assert wrong > 0
    assert f"{wrong} of 30 images are decided differently by the engine; torch's answers count" in found.notes


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_what_was_interrupted_ends_with_the_same_bits_and_the_same_notes(model, data, attack, tmp_path: Path):
    engine, asked, state = sparse_module(model, data[0]), [], tmp_path / "state.json"

    def stop() -> bool:
        asked.append(state.exists())
        return sum(asked) == 12

    whole = evaluate(model, data, attack, batch_size=10, engine=engine)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data, attack, batch_size=10, engine=engine, state=state, should_stop=stop)
    assert read_json(state)["identity"]["engine"] == "sparse"
    assert timeless(evaluate(model, data, attack, batch_size=10, engine=engine, state=state)) == timeless(whole)


def test_the_state_of_one_engine_is_refused_by_another(model, data, tmp_path: Path):
    state = tmp_path / "state.json"
    evaluate(model, data, ATTACKS[0], batch_size=10, state=state)
    with pytest.raises(ValueError, match=r"belongs to another evaluation: another engine"):
        evaluate(model, data, ATTACKS[0], batch_size=10, state=state, engine=sparse_module(model, data[0]))


def test_a_state_from_before_there_were_engines_goes_on_in_torch(model, data, tmp_path: Path):
    state = tmp_path / "state.json"
    whole = evaluate(model, data, ATTACKS[0], batch_size=10, state=state)
    old = read_json(state)
    del old["identity"]["engine"], old["same"]
    write_json(state, old)
    assert evaluate(model, data, ATTACKS[0], batch_size=10, state=state) == whole


def test_a_card_from_before_there_were_engines_means_torch(model, data):
    record = evaluate(model, data, ATTACKS[0]).to_json()
    assert record["engine"] == "torch"
    del record["engine"]
    assert Evaluation.from_json(record).engine == "torch"
    with pytest.raises(ValueError, match="engine='gpu' must be 'torch' or 'sparse'"):
        Evaluation.from_json({**record, "engine": "gpu"})
