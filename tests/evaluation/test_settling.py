"""A settled evaluation: what it finds beyond AutoAttack, what it costs, that it resumes, and what it says in the end."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from evaluated_networks import check_resuming
from torch import Tensor, nn

from harp.attacks import AutoAttack, Settled, Threat
from harp.cards import Evaluation
from harp.data import InMemory
from harp.evaluation import contradictions, evaluate

THREAT = Threat("linf", 0.13)
BASE = AutoAttack(THREAT, iterations=8, queries=40)
SUITE = ["apgd-ce", "apgd-t", "fab-t", "square"]


class Counting(nn.Module):
    """Counts passes of images, forward and backward."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.passes = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += len(x)
        answer = self.inner(x)
        if answer.requires_grad:
            answer.register_hook(lambda gradient: self.back(len(gradient)))
        return answer

    def back(self, images: int) -> None:
        self.passes += images


class Dead(nn.Module):
    """Dead at its images: every gradient is zero, and a larger step wakes units that change the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(25, 25), nn.Linear(25, 4)
        self.first.weight.data = torch.eye(25)
        self.first.bias.data.fill_(-0.55)
        torch.manual_seed(0)
        self.last.weight.data = torch.randn(4, 25)
        self.last.bias.data = torch.tensor([0.25, 0.0, 0.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.first(x.flatten(1))).relu())


def sound() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.ReLU(), nn.Linear(12, 5))


def images(model: nn.Module, n: int = 24, low: float = 0.42, width: float = 0.04) -> InMemory:
    x = low + width * torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return InMemory(x, model(x).argmax(1))


def test_without_a_doubt_it_is_autoattack_to_the_bit_and_costs_no_more():
    model = Counting(sound())
    data, base = images(model, low=0.0, width=1.0), replace(BASE, threat=Threat("linf", 0.1))
    model.passes = 0
    alone = evaluate(model, data, base)
    cost, model.passes = model.passes, 0
    both = evaluate(model, data, Settled(base))
    assert 0 < alone.correct < 24
    assert (both.right, both.per_attack) == (alone.right, alone.per_attack)
    assert both.attack == "settled"
    assert model.passes <= 1.05 * cost


def test_dead_units_are_seen_through_and_the_card_says_what_each_round_found():
    model = Counting(Dead())
    data = images(model)
    base = replace(BASE, attacks=("apgd-ce", "apgd-t"))
    model.passes = 0
    alone = evaluate(model, data, base)
    cost, model.passes = model.passes, 0
    both = evaluate(model, data, Settled(base))
    assert both.correct < alone.correct
    assert list(both.per_attack)[:3] == ["apgd-ce", "apgd-t", "smooth"]
    assert any(
        f"after AutoAttack found {alone.correct - both.correct} more of 24 images (smooth" in note
        for note in both.notes
    )
    assert model.passes <= 3.2 * cost, "the looks before and after count little on more images"


def test_a_doubt_that_no_round_removes_remains_and_is_said():
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e-3 * x.flatten(1)[:, :5] + 10 * torch.eye(5)[2]

    model = Constant()
    found = evaluate(model, images(model, 8), Settled(BASE))
    assert found.correct == 8
    assert list(found.per_attack) == [*SUITE, "smooth", "square-again"], "two rounds found nothing"
    assert any(note.startswith("doubt remains: an attack without bounds leaves 8 of 8") for note in found.notes)


def test_images_of_a_dense_parent_are_where_a_round_starts():
    model, parent = Dead(), Counting(sound())
    attack = Settled(replace(BASE, attacks=("apgd-ce", "apgd-t", "fab-t"), threat=Threat("linf", 0.06)), parent=parent)
    found = evaluate(model, images(model), attack)
    assert "transfer" in found.per_attack
    assert parent.passes > 0


@pytest.mark.parametrize("attacks", [("apgd-ce",), ("apgd-ce", "square")])
def test_interrupted_anywhere_and_resumed_it_ends_the_same(tmp_path, attacks):
    model = Dead()
    attack = Settled(AutoAttack(THREAT, attacks=attacks, iterations=3, queries=6), parent=sound())
    check_resuming(partial(evaluate, model, images(model, 20), attack, batch_size=8), tmp_path)


def test_the_state_of_another_parent_is_refused(tmp_path):
    model, state = Dead(), tmp_path / "state.json"
    attack = Settled(replace(BASE, attacks=("apgd-ce",), iterations=2), parent=sound())
    evaluate(model, images(model), attack, state=state)
    with pytest.raises(ValueError, match="another parent"):
        evaluate(model, images(model), replace(attack, parent=Dead()), state=state)


def test_a_settled_result_is_stronger_than_autoattacks():
    auto = Evaluation("autoattack", "linf", 0.03, 1000, 400, 0, 0.0)
    assert contradictions([auto, replace(auto, attack="settled", correct=390)]) == []
    assert len(contradictions([auto, replace(auto, attack="settled", correct=420)])) == 1


def test_the_card_holds_the_answers_of_every_class():
    model = sound()
    data = images(model, low=0.0, width=1.0)
    clean, attacked = evaluate(model, data), evaluate(model, data, Settled(replace(BASE, threat=Threat("linf", 0.02))))
    assert {label: pair[0] for label, pair in clean.by_class.items()} == {
        label: pair[1] for label, pair in clean.by_class.items()
    }
    assert sum(right for right, _ in attacked.by_class.values()) == attacked.correct
    assert attacked.calibration == ()
    assert Evaluation.from_json({**attacked.to_json()}) == attacked
    assert Evaluation.from_json(clean.to_json()) == clean
