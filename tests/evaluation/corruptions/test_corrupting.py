"""Accuracy under corruptions: counted by corruption, severity and image, resumable, on the card."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from harp.cards import Corruptions, Fields
from harp.cards.corruptions import read_corruptions
from harp.data import InMemory
from harp.evaluation.corrupting import evaluate_corrupted


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


def images(n: int = 10) -> InMemory:
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return InMemory(x, network()(x).argmax(1))


def counted() -> Corruptions:
    return evaluate_corrupted(network(), images(), batch_size=4)


def test_every_version_of_every_image_is_counted_once():
    found = counted()
    assert (found.images, found.versions, len(found.counts)) == (10, 75, 15)
    assert sum(map(sum, found.counts.values())) == sum(found.by_image) == round(found.accuracy * 750)
    low, high = found.interval
    assert 0 <= low < found.accuracy < high <= 1
    assert found.of("fog") == sum(found.counts["fog"]) / 50


def test_the_batch_size_does_not_matter():
    assert evaluate_corrupted(network(), images(), batch_size=10).by_image == counted().by_image


class Stop(Exception):
    """Raised by a test in the middle."""


def test_interrupted_and_resumed_it_ends_the_same(tmp_path):
    state, done = tmp_path / "state.json", []

    def interrupt(now: int, total: int) -> None:
        done.append(now)
        if len(done) == 40:
            raise Stop

    with pytest.raises(Stop):
        evaluate_corrupted(network(), images(), batch_size=4, state=state, on_progress=interrupt)
    resumed = evaluate_corrupted(
        network(), images(), batch_size=4, state=state, on_progress=lambda now, total: done.append(now)
    )
    assert len(done) == 75
    assert replace(resumed, elapsed_s=0.0) == replace(counted(), elapsed_s=0.0)
    with pytest.raises(ValueError, match="another evaluation: another data, batch_size, seed"):
        evaluate_corrupted(network(), images(), batch_size=5, seed=1, state=state)


def test_on_the_card_it_is_read_back_and_what_contradicts_itself_is_named():
    found = counted()
    assert read_corruptions(Fields("card.json, corruptions", found.to_json())) == found
    for entry, value, said in (
        ("images", 11, "by_image has 10 entries, expected one per image, 11"),
        ("accuracy", 0.5123, "accuracy is 0.5123, expected"),
        ("by_image", [0] * 10, "the same number of right answers"),
        ("counts", {"fog": [11]}, "must lie in"),
        ("counts", {}, "a list of counts for each corruption"),
        ("more", 1, "no such entry"),
    ):
        with pytest.raises(ValueError, match=f"card.json, corruptions.*{said}"):
            read_corruptions(Fields("card.json, corruptions", {**found.to_json(), entry: value}))
