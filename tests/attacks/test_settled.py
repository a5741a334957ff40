"""After AutoAttack, rounds of other attacks: only where there is a doubt, in order, until two in a row find nothing."""

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import AutoAttack, Settled, Threat, settled
from harp.attacks.settled import FLAT, OTHER, SATURATED, SQUARE

THREAT = Threat("linf", 0.05)
QUICK = Settled(AutoAttack(THREAT, iterations=6, queries=30))
PARENT = nn.Identity()


def names(rounds) -> list[str]:
    return [each.name for each in rounds]


def test_without_a_doubt_there_is_nothing_to_settle():
    assert names(settled(THREAT).rounds([])) == []
    assert names(settled(Threat("linf", 0.0)).rounds([FLAT])) == []


@pytest.mark.parametrize(
    ("doubt", "first"),
    [(SATURATED, ["rescaled"]), (FLAT, ["smooth"]), (SQUARE, ["smooth", "square-again"]), (OTHER, ["smooth"])],
)
def test_what_was_made_for_the_doubt_comes_first(doubt, first):
    rounds = names(settled(THREAT, parent=PARENT).rounds([doubt]))
    assert rounds[: len(first)] == first
    assert sorted(rounds) == ["larger-starts", "rescaled", "smooth", "square-again", "square-finer", "transfer"]


def test_without_a_parent_nothing_is_transferred_and_without_square_it_is_not_run_again():
    assert "transfer" not in names(settled(THREAT).rounds([OTHER]))
    assert not any("square" in name for name in names(settled(THREAT, attacks=("apgd-ce",)).rounds([OTHER])))


def test_two_rounds_in_a_row_that_find_nothing_settle_it():
    attack, plenty = settled(THREAT), 1e9
    assert names(attack.ahead([OTHER], {"rescaled": 3, "smooth": 0}, plenty, 10)) == [
        "square-again",
        "larger-starts",
        "square-finer",
    ]
    assert names(attack.ahead([OTHER], {"rescaled": 0, "smooth": 0}, plenty, 10)) == []
    assert names(attack.ahead([OTHER], {"rescaled": 0, "smooth": 1, "square-again": 0}, plenty, 10)) != []


def test_a_doubt_is_not_settled_before_its_own_remedies_were_tried():
    found = {"rescaled": 0, "smooth": 0}
    assert names(settled(THREAT).ahead([SATURATED, SQUARE], found, 1e9, 10))[0] == "square-again"


def test_no_round_is_begun_that_would_cost_too_much():
    attack = settled(THREAT)
    cheap = attack.cost("rescaled", 10)
    assert names(attack.ahead([SATURATED], {}, cheap, 10)) == ["rescaled"]
    assert names(attack.ahead([SATURATED], {}, cheap - 1, 10)) == ["larger-starts"]
    assert names(attack.ahead([SATURATED], {}, 0, 10)) == []


@pytest.mark.parametrize("classes", [2, 3, 4, 10, 100])
def test_all_rounds_together_cost_no_more_than_twice_autoattack(classes):
    attack = settled(THREAT, parent=PARENT)
    whole = sum(attack.cost(name, classes) for name in attack.base.suite(classes))
    doubts = [SATURATED, FLAT, SQUARE]
    ahead = attack.ahead(doubts, {}, 2 * whole, classes)
    assert sum(attack.cost(each.name, classes) for each in ahead) <= 2 * whole
    assert {"rescaled", "smooth", "square-again"} <= set(names(ahead))


class Dead(nn.Module):
    """Every hidden unit is dead at the images of `images`, and alive a step of 0.02 away from them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(25, 25), nn.Linear(25, 4)
        self.first.weight.data = torch.eye(25)
        self.first.bias.data.fill_(-0.52)
        torch.manual_seed(0)
        self.last.weight.data = torch.randn(4, 25)
        self.last.weight.data[0] = -1.0
        self.last.bias.data = torch.tensor([0.05, 0.0, 0.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.flatten(1)).relu())


def images(n: int = 6) -> tuple[Tensor, Tensor]:
    x = 0.42 + 0.04 * torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    return x, torch.zeros(n, dtype=torch.long)


@pytest.mark.parametrize("name", ["rescaled", "smooth", "transfer", "larger-starts", "square-again", "square-finer"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_round_stays_inside_the_ball_to_the_last_bit(name, norm):
    threat = Threat(norm, 0.05 if norm == "linf" else 0.3)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.ReLU(), nn.Linear(12, 5))
    attack = Settled(AutoAttack(threat, iterations=6, queries=30), parent=Dead())
    (one,) = [each for each in attack.rounds([OTHER]) if each.name == name]
    x = torch.rand(7, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = model(x).argmax(1)
    y = y.clamp_max(3) if name == "transfer" else y
    state = torch.get_rng_state()
    found = attack.round_once(one, model, x, y)
    assert torch.equal(torch.get_rng_state(), state)
    delta = (found.double() - x.double()).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert (length <= threat.eps).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found, attack.round_once(one, model, x, y)), "the same seed finds the same"


def test_dead_units_hide_from_gradients_and_not_from_smooth_ones():
    threat, model = Threat("linf", 0.13), Dead()
    x, y = images()
    base = AutoAttack(threat, attacks=("apgd-ce",), iterations=8)
    (smooth,) = [each for each in Settled(base).rounds([FLAT]) if each.name == "smooth"]
    assert (model(x).argmax(1) == 0).all()
    fooled = model(Settled(base).round_once(smooth, model, x, y)).argmax(1) != 0
    assert fooled.all()


def test_on_a_batch_it_finds_all_that_autoattack_finds():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.ReLU(), nn.Linear(12, 5))
    x = torch.rand(12, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = model(x).argmax(1)
        alone = model(QUICK.base(model, x, y)).argmax(1) == y
        both = model(QUICK(model, x, y)).argmax(1) == y
    assert 0 < int(alone.sum()) < 12
    assert not (both & ~alone).any()
