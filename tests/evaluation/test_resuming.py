"""Evaluations that were interrupted, killed, or changed on file."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from evaluated_networks import PLAIN, QUICK, THREAT, check_resuming, comparable, convolutional, images, linear

from harp.attacks import PGD
from harp.attacks.autoattack import AutoAttack
from harp.data import InMemory
from harp.evaluation import evaluate

TWO_PARTS = AutoAttack(THREAT, attacks=("apgd-ce", "square"), iterations=2, queries=5)


@pytest.mark.parametrize("attack", [None, PGD(THREAT, steps=2), TWO_PARTS], ids=["clean", "pgd", "autoattack"])
def test_interrupted_anywhere_and_resumed_it_ends_the_same(tmp_path, attack):
    model = convolutional()
    check_resuming(partial(evaluate, model, images(model, 30), attack, batch_size=8), tmp_path)


def test_progress_never_goes_back_and_ends_at_the_whole():
    model = linear()
    steps = []
    evaluate(model, images(model), QUICK, batch_size=8, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert steps[-1] == (40, 40)
    assert steps[0][0] < 10


def test_a_finished_state_answers_at_once(tmp_path):
    model = linear()
    data = images(model)
    first = evaluate(model, data, PLAIN, state=tmp_path / "state.json")
    assert evaluate(model, data, PLAIN, state=tmp_path / "state.json", on_progress=never) == first


def never(done: int, total: int) -> None:
    raise AssertionError("there was nothing left to do")


def test_the_state_of_another_evaluation_is_refused_and_says_what_differs(tmp_path):
    model = linear()
    data = images(model)
    state = tmp_path / "state.json"
    evaluate(model, data, PLAIN, state=state)
    other = linear()
    other[1].bias.data[0] += 1e-7 + abs(other[1].bias[0].item()) * 1e-6
    moved = InMemory(data.images.flip(3), data.labels)
    for complaint, arguments in {
        "another model": {"model": other},
        "another data": {"data": moved},
        "another attack": {"attack": PGD(THREAT, steps=4)},
        "another data, images": {"images": 20},
        "another batch_size": {"batch_size": 41},
        "another seed": {"seed": 1},
    }.items():
        with pytest.raises(ValueError, match=complaint):
            evaluate(**{"model": model, "data": data, "attack": PLAIN, "state": state, **arguments})
    assert evaluate(model, data, PLAIN, state=state).images == 40, "a refusal leaves the state alone"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": 1, "identity": {"mo',
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"format": 2}',
        b'{"format": 1, "identity": []}',
    ],
)
def test_a_damaged_state_is_named_and_not_guessed_at(tmp_path, content):
    model = linear()
    state = tmp_path / "state.json"
    state.write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.json"):
        evaluate(model, images(model), PLAIN, state=state)
    assert state.read_bytes() == content


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("batches", -1),
        ("batches", 2),
        ("batches", "2"),
        ("elapsed_s", -1.0),
        ("notes", [1]),
        ("finished", {"clean": "f"}),
        ("finished", {"clean": 5}),
        ("finished", []),
        ("finished", {"square": "f" * 10}),
        ("right", "f" * 10),
    ],
)
def test_a_state_whose_entries_make_no_sense_is_refused(tmp_path, entry, value):
    model = linear()
    state = tmp_path / "state.json"
    evaluate(model, images(model), PLAIN, state=state)
    state.write_text(json.dumps({**json.loads(state.read_text()), entry: value}))
    with pytest.raises(ValueError, match=r"state\.json"):
        evaluate(model, images(model), PLAIN, state=state)


KILLED = """
import os, signal
from pathlib import Path
import torch
from harp.attacks import PGD, Threat
from harp.data import InMemory
from harp.evaluation import evaluate

def kill(done, total):
    if done >= 15:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
tensors = torch.load({tensors!r}, weights_only=True)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, 4))
model.load_state_dict(tensors["model"])
data = InMemory(tensors["images"], tensors["labels"])
evaluate(model, data, PGD(Threat("linf", 0.01), steps=3), batch_size=4, state=Path({state!r}), on_progress=kill)
"""


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path):
    model = linear()
    data = images(model, 30)
    state, tensors = tmp_path / "state.json", tmp_path / "tensors.pt"
    torch.save({"model": model.state_dict(), "images": data.images, "labels": data.labels}, tensors)
    script = KILLED.format(state=str(state), tensors=str(tensors))
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    again: list[int] = []
    resumed = evaluate(
        model, data, PLAIN, batch_size=4, state=state, on_progress=lambda done, total: again.append(done)
    )
    assert again[0] > 15
    assert comparable(resumed) == comparable(evaluate(model, data, PLAIN, batch_size=4))


# Examples
