"""Networks with a planted fault are caught by name before they are attacked; sound ones are not suspected."""

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.data import InMemory
from harp.evaluation import evaluate

THREAT = Threat("linf", 0.02)
ATTACKS = {
    "pgd": PGD(THREAT, steps=2),
    "autoattack": AutoAttack(THREAT, attacks=("apgd-ce",), iterations=2),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


class Rounded(nn.Module):
    """Images with four grey levels, through which no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 3).round() / 3


class Scaled(nn.Module):
    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.by


class Reversed(nn.Module):
    """Images as they are, with gradients that point the other way."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x.detach() - x


def network(first: nn.Module | None = None, last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
    return nn.Sequential(first or nn.Identity(), net, last or nn.Identity())


def images(n: int = 40) -> InMemory:
    x = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return InMemory(x, network()(x).argmax(1))


def notes(model: nn.Module, attack) -> list[str]:
    return [note for note in evaluate(model, images(), attack).notes if not note.startswith("not the standard")]


@every_attack
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_sound_network_has_no_notes(attack, dtype):
    assert notes(network().to(dtype), attack) == []


@every_attack
def test_logits_times_ten_thousand_are_saturated(attack):
    said = notes(network(last=Scaled(1e4)), attack)
    assert any("has no gradient at" in note and "so far apart that it vanishes in rounding" in note for note in said)
    assert not any("without bounds" in note for note in said), "the margin still shows the way"


@every_attack
def test_a_rounding_first_layer_lets_no_gradient_pass(attack):
    said = notes(network(first=Rounded()), attack)
    assert any("has no gradient at 32 of the first 32 images" in note for note in said)
    assert any("at 32 no gradient passes the network: a rounding step, or dead units" in note for note in said)
    assert any(
        "an attack without bounds leaves 16 of 16 images right, where it must leave none" in note for note in said
    )


@every_attack
def test_one_answer_whatever_it_sees_survives_every_attack(attack):
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e-3 * x.flatten(1)[:, :5] + 10 * torch.eye(5)[int(images().labels.mode().values)]

    assert any("the network gives one answer whatever it sees" in note for note in notes(Constant(), attack))


@every_attack
def test_gradients_that_point_the_other_way_do_not_pass_for_robustness(attack):
    (said,) = notes(network(first=Reversed()), attack)
    assert said.startswith("an attack without bounds leaves 16 of 16 images right, where it must leave none: gradients")


@every_attack
def test_a_softmax_at_the_end_is_seen(attack):
    assert any("probabilit" in note for note in notes(network(last=nn.Softmax(1)), attack))


@every_attack
def test_looking_changes_no_result(attack):
    model = network()
    with_notes, without = (evaluate(model, images(), attack, look_for_doubts=look) for look in (True, False))
    assert (with_notes.right, with_notes.per_attack) == (without.right, without.per_attack)
    saturated = network(last=Scaled(1e4))
    assert evaluate(saturated, images(), attack, look_for_doubts=False).notes == ()
