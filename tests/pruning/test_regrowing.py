"""Flying Bird and Flying Bird+: what is dropped and what grows by hand, the exact budget, and what adapts it."""

import math

import pytest
import torch
from torch import nn

from harp.pruning import (
    FLYING_BIRD,
    FLYING_BIRD_PLUS,
    GMP,
    METHODS,
    FlyingBird,
    Method,
    Pruner,
    Regrowth,
    attach_masks,
    bake_masks,
    channel_budget,
    freeze_masks,
    masks,
    weight_budget,
)
from harp.pruning.keeps import uniform
from harp.pruning.scores import magnitude
from harp.recipes import Pruning

UNIFORM = Method(magnitude, uniform, FLYING_BIRD.learn, rule="regrow")
UNIFORM_PLUS = Method(magnitude, uniform, FLYING_BIRD.learn, rule="regrow-adaptive")


def one_layer() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[8.0, -7.0, 6.0, 5.0, 4.0, -3.0, 2.0, 1.0]]))
    return model


def started(model: nn.Module, keep: float, steps: int, method: Method, **how) -> FlyingBird:
    budget = weight_budget(model, keep=keep)
    attach_masks(model, budget, method)
    return FlyingBird(model, budget, steps, method=method, how=Regrowth(**how))


def weight_of(model: nn.Module) -> nn.Parameter:
    return model[0].parametrizations.weight.original


def take_gradient(model: nn.Module, gradient: list[float]) -> None:
    weight_of(model).grad = None
    (model[0].weight * torch.tensor([gradient])).sum().backward()


def test_the_share_that_is_replaced_by_hand():
    """0.5 / 2 · (1 + cos(π t / 10)) is 0.5 at the start, 0.25 at half time and 0 at the end."""
    rule = started(one_layer(), 0.5, 10, UNIFORM, every=100)
    seen = [rule.fraction()]
    for _ in range(10):
        rule.step()
        seen.append(rule.fraction())
    assert [seen[0], seen[5], seen[10]] == pytest.approx([0.5, 0.25, 0.0])
    assert seen[2] == pytest.approx(0.25 * (1 + math.cos(0.2 * math.pi)))


def test_the_smallest_go_and_those_of_largest_gradient_come_by_hand():
    """Four of eight: 8, −7, 6, 5. After step 2 of 4 a quarter is replaced, one weight: 5 goes, the last comes, at zero."""
    model = one_layer()
    rule = started(model, 0.5, 4, UNIFORM, every=2)
    assert model[0].weight.tolist() == [[8.0, -7.0, 6.0, 5.0, 0.0, 0.0, 0.0, 0.0]]
    take_gradient(model, [9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0, -5.0])
    assert weight_of(model).grad.tolist() == [[9.0, 9.0, 9.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    rule.note_gradients()
    rule.step()
    take_gradient(model, [9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0, -5.0])
    assert weight_of(model).grad[0, -1] == -5.0  # of all weights, before the renewal
    rule.note_gradients()
    assert weight_of(model).grad.tolist() == [[9.0, 9.0, 9.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    rule.step()
    assert masks(model)["0.weight"].current().tolist() == [[True, True, True, False, False, False, False, True]]
    assert weight_of(model).tolist() == [[8.0, -7.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]]


def test_a_weight_that_is_dropped_and_grown_at_once_stays_as_it_is():
    model = one_layer()
    rule = started(model, 0.5, 4, UNIFORM, every=2)
    rule.step()
    take_gradient(model, [0.0, 0.0, 0.0, 7.0, 1.0, 1.0, 1.0, 1.0])
    rule.step()
    assert model[0].weight.tolist() == [[8.0, -7.0, 6.0, 5.0, 0.0, 0.0, 0.0, 0.0]]


def test_what_grows_starts_at_zero_wherever_momentum_has_carried_it():
    model = one_layer()
    rule = started(model, 0.5, 4, UNIFORM, every=2)
    rule.step()
    with torch.no_grad():
        weight_of(model)[0, 7] = 0.3
    take_gradient(model, [0.0] * 7 + [1.0])
    rule.step()
    assert masks(model)["0.weight"].current()[0, 7]
    assert model[0].weight.tolist() == [[8.0, -7.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]]


def test_what_was_zero_in_the_parent_never_grows():
    model = one_layer()
    with torch.no_grad():
        model[0].weight[0, 6:] = 0.0
    rule = started(model, 0.5, 4, UNIFORM, every=2)
    rule.step()
    take_gradient(model, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 9.0, 9.0])
    rule.step()
    assert masks(model)["0.weight"].current().tolist() == [[True, True, True, False, False, True, False, False]]


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        ([(0.5, 0.4), (0.6, 0.4)], 14),  # the gap widens
        ([(0.5, 0.4), (0.5, 0.4)], 16),
        ([(0.5, 0.4), (0.4, 0.3)], 16),  # accuracy falls, and the start is the most
        ([(0.5, 0.4), (0.6, 0.5)], 16),
    ],
)
def test_what_flying_bird_plus_keeps_by_hand(epochs, kept):
    """Sixteen of 32 at first, twice the budget of 8; at step 4 of 8, f = 0.25 and 4 are replaced: 1.6 fewer are 14."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 1, bias=False))
    rule = started(model, 0.25, 8, UNIFORM_PLUS, every=4, settle=1.0)
    assert masks(model)["0.weight"].count == 16
    for training, validation in epochs:
        rule.end_epoch(training, validation)
    for _ in range(4):
        take_gradient(model, [1.0] * 32)
        rule.note_gradients()
        rule.step()
    assert masks(model)["0.weight"].count == kept
    for _ in range(4):
        take_gradient(model, [1.0] * 32)
        rule.step()
    assert masks(model)["0.weight"].count == 8


def test_flying_bird_plus_shrinks_and_grows_by_hand():
    """160 of 320. Step 2 of 8: ⌊0.4268 · 160⌋ = 68 are replaced, 27.2 fewer come. Step 4: ⌊0.25 · 133⌋ = 33, 1.65 more."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(320, 1, bias=False))
    rule = started(model, 0.25, 8, UNIFORM_PLUS, every=2, settle=1.0)
    seen = []
    for accuracies in ([(0.5, 0.4), (0.6, 0.4)], [(0.3, 0.2), (0.2, 0.1)]):
        for training, validation in accuracies:
            rule.end_epoch(training, validation)
        for _ in range(2):
            take_gradient(model, [1.0] * 320)
            rule.step()
        seen.append(masks(model)["0.weight"].count)
    assert seen == [133, 135]


@pytest.mark.parametrize("name", ["flying-bird", "flying-bird-plus"])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_the_budget_is_exact_at_the_end_of_a_stage_of_any_length(name, steps):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    pruner = Pruner(model, keep=0.13, method=METHODS[name], steps=steps)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = {name: mask.current() for name, mask in masks(model).items()}
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(8, 1, 4, 4)).square().mean().backward()
        optimizer.step()
        pruner.step()
    assert sum(mask.count for mask in masks(model).values()) == pruner.budget.limit
    if steps == 17:
        assert any(not torch.equal(mask.current(), before[name]) for name, mask in masks(model).items())
    pruner.freeze()
    bake_masks(freeze_masks(model))
    assert sum(int(model.get_parameter(site).count_nonzero()) for site in pruner.budget.sites) <= pruner.budget.limit


def test_gradients_that_are_gone_are_asked_for():
    model = one_layer()
    rule = started(model, 0.5, 4, UNIFORM, every=1)
    with pytest.raises(ValueError, match="has no gradient to grow weights by"):
        rule.step()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="prunes single weights"):
        Pruning(method="flying-bird", granularity="channel")
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    with pytest.raises(ValueError, match="removes single weights"):
        attach_masks(model, channel_budget(model, torch.zeros(1, 1, 4, 4), keep=0.5), FLYING_BIRD)
    with pytest.raises(ValueError, match="whose rule is 'regrow'"):
        started(one_layer(), 0.5, 4, GMP)
    with pytest.raises(ValueError, match="learn 'weights' and 'masks'"):
        Method(magnitude, uniform, rule="regrow")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"drop": 0.0}, "drop=0.0"),
        ({"every": 0}, "every=0"),
        ({"start": 0.5}, "start=0.5"),
        ({"settle": 0.0}, "settle=0.0"),
    ],
)
def test_a_way_of_replacing_that_is_none_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        started(one_layer(), 0.5, 10, FLYING_BIRD_PLUS, **how)
    with pytest.raises(ValueError, match=f"bird_{said}"):
        Pruning(**{f"bird_{name}": value for name, value in how.items()})
