"""Distances of an evaluation: the accuracy at every radius, resumable, and on the card."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from evaluated_networks import check_resuming
from torch import nn

from harp.attacks import PGD, Minimal, Threat
from harp.cards import Evaluation
from harp.data import InMemory
from harp.evaluation import evaluate, evaluation_order

ATTACK = Minimal(Threat("linf", 0.03), steps=30)


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5))


def images(n: int = 24, wrong: int = 4) -> InMemory:
    x = torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        y = network()(x).argmax(1)
    y[n - wrong :] = (y[n - wrong :] + 1) % 5
    return InMemory(x, y)


def test_the_accuracy_at_every_radius_follows_from_the_distances():
    found = evaluate(network(), images(), ATTACK)
    assert (found.attack, found.norm, found.eps, found.images) == ("minimal", "linf", 0.03, 24)
    assert found.at(0.03)[0] == found.accuracy
    assert found.at(0.0)[0] == 20 / 24
    assert found.at(1.0)[0] == 0.0
    curve = [found.at(eps)[0] for eps in torch.linspace(0, 0.5, 30).tolist()]
    assert curve == sorted(curve, reverse=True)
    assert found.at(found.median_distance)[0] <= 0.5 <= found.at(found.median_distance - 1e-6)[0]
    wrong = [float(each) for each in evaluation_order(24) >= 20]
    assert [each == 0 for each in found.distances] == [bool(each) for each in wrong]


def test_at_its_radius_it_is_no_weaker_than_pgd():
    pgd = evaluate(network(), images(), PGD(Threat("linf", 0.03), steps=20))
    assert evaluate(network(), images(), ATTACK).correct <= pgd.correct + 1


def test_what_each_part_left_is_kept_and_every_part_takes_all_images():
    found = evaluate(network(), images(), ATTACK)
    assert list(found.per_attack) == ["fmn", "fmn-long", "fab"]
    assert list(found.per_attack.values()) == sorted(found.per_attack.values(), reverse=True)
    alone = evaluate(network(), images(), ATTACK, images=1)
    assert alone.distances == found.distances[:1]


def test_on_the_card_distances_are_numbers_and_null_and_read_back():
    found = evaluate(network(), images(), ATTACK)
    record = found.to_json()
    assert Evaluation.from_json(record) == found
    del record["distances"]
    assert Evaluation.from_json(record).distances == ()
    with pytest.raises(ValueError, match="distances has 1 entries, expected one per image, 24"):
        Evaluation.from_json({**record, "distances": [0.1]})
    with pytest.raises(ValueError, match="expected a list of numbers from 0, or null"):
        Evaluation.from_json({**record, "distances": [-0.1] * 24})
    with pytest.raises(ValueError, match="measured no distances"):
        Evaluation.from_json(record).at(0.1)


def test_interrupted_anywhere_and_resumed_it_ends_the_same(tmp_path):
    check_resuming(partial(evaluate, network(), images(), replace(ATTACK, steps=4), batch_size=8), tmp_path)
