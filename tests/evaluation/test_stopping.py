"""A stop is heard before the next pass of the model, in any attack, and nothing that was finished is lost."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.data import InMemory
from harp.evaluation import Ranks, collect_examples, evaluate
from harp.evaluation.stopping import Stopped

THREAT = Threat("linf", 0.02)


def own(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """An attack of the user's, of ten passes, that stops for no exception but those meant to stop."""
    for _ in range(10):
        try:
            model(x)
        except Exception:
            continue
    return x


ATTACKS = {
    "clean": None,
    "pgd": PGD(THREAT, steps=10),
    "own": own,
    **{
        part: AutoAttack(THREAT, attacks=(part,), iterations=6, queries=40)
        for part in ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
    },
}


class Counted(nn.Module):
    """Counts its passes, and asks for a stop at one of them, as Ctrl-C in the middle of it would."""

    def __init__(self, stop_at: int = 0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
        self.passes, self.stop_at = 0, stop_at

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.net(x)

    def asked(self) -> bool:
        return 0 < self.stop_at <= self.passes


def images(n: int = 12) -> InMemory:
    x = 0.3 + 0.4 * torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return InMemory(x, Counted().net(x).argmax(1))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_pass_is_made_after_the_one_in_which_a_stop_was_asked_for(attack):
    whole = Counted()
    evaluate(whole, images(), attack, batch_size=6)
    for stop_at in {1, 2, *range(3, whole.passes, max(whole.passes // 6, 1)), whole.passes - 1}:
        model = Counted(stop_at)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, images(), attack, batch_size=6, should_stop=model.asked)
        assert model.passes == stop_at
        assert not model._forward_pre_hooks, "nothing is left behind"
        assert model.training


def test_finished_batches_and_attacks_are_kept(tmp_path: Path):
    attack = AutoAttack(THREAT, attacks=("apgd-ce", "square"), iterations=6, queries=40)
    whole = Counted()
    expected = evaluate(whole, images(), attack, batch_size=4)
    state, done, finished = tmp_path / "state.json", 0, []
    for stop_at in range(30, 10_000, 30):
        model = Counted(stop_at)
        try:
            found = evaluate(model, images(), attack, batch_size=4, state=state, should_stop=model.asked)
        except KeyboardInterrupt:
            if state.exists():
                finished = list(json.loads(state.read_text())["finished"])
            done += stop_at
            continue
        break
    assert finished, "a part that was done before the last stop"
    assert replace(found, elapsed_s=0.0) == replace(expected, elapsed_s=0.0)
    assert model.passes < whole.passes


def test_the_examples_for_a_report_stop_as_well():
    model = Counted(stop_at=3)
    with pytest.raises(KeyboardInterrupt):
        collect_examples(model, images(), PGD(THREAT, steps=20), should_stop=model.asked)
    assert model.passes == 3


def test_a_scripted_network_hears_it_too():
    with pytest.warns(FutureWarning):
        model = torch.jit.script(Counted().net.eval())
    asked = iter([False] * 40 + [True] * 1000)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, images(), PGD(THREAT, steps=100), should_stop=lambda: next(asked))
    assert next(asked), "and asks no further"


def test_a_rank_that_stops_takes_the_others_with_it(monkeypatch):
    def stopped() -> int:
        raise Stopped

    ranks, votes = Ranks(0, 2), []
    for others_stop in (False, True):
        monkeypatch.setattr(
            Ranks, "any_of", lambda self, mine, theirs=others_stop: votes.append(mine) or mine or theirs
        )
        with pytest.raises(KeyboardInterrupt):
            ranks.unless_stopped(stopped)
        if others_stop:
            with pytest.raises(KeyboardInterrupt):
                ranks.unless_stopped(lambda: 1)
        else:
            assert ranks.unless_stopped(lambda: 1) == 1
    assert votes == [True, False, True, False], "each is asked, whatever it found"
