"""Gradual magnitude pruning: its schedule and its masks by hand, weights that come back, and the exact cut."""

import pytest
import torch
from torch import nn

from harp.pruning import (
    GMP,
    GMP_LAMP,
    GRADUAL,
    HARP,
    LWM,
    METHODS,
    Gradual,
    Method,
    Pruner,
    attach_masks,
    bake_masks,
    channel_budget,
    freeze_masks,
    masks,
    weight_budget,
)
from harp.pruning.keeps import uniform
from harp.recipes import Pruning

NAMES = ("gmp", "gmp-erk", "gmp-lamp", "gmp-global")


def two_layers() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[8.0, -7.0, 6.0, 5.0], [4.0, -3.0, 2.0, 1.0]]))
        model[1].weight.copy_(torch.tensor([[0.9, -0.8], [0.7, 0.6]]))
    return model


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))


def started(model: nn.Module, keep: float, steps: int, method: Method, **how) -> Gradual:
    budget = weight_budget(model, keep=keep)
    attach_masks(model, budget, method)
    return Gradual(model, budget, steps, method=method, **how)


def kept(model: nn.Module) -> list[int]:
    return [mask.count for mask in masks(model).values()]


def test_the_schedule_by_hand():
    """keep = 0.2 by step 10 of 20: 0.2 + 0.8 · (1 − t/10)³ is 0.3 at t = 5, and 0.2064 at t = 8."""
    rule = started(network(), 0.2, 20, GMP, settle=0.5, every=1)
    seen = [rule.goal()]
    for _ in range(20):
        rule.step()
        seen.append(rule.goal())
    assert [seen[t] for t in (0, 5, 8, 10, 20)] == pytest.approx([1.0, 0.3, 0.2064, 0.2, 0.2])


def test_masks_by_hand_and_a_weight_that_comes_back():
    """Ten of twelve weights, then six, uniformly 7 + 3 and 4 + 2. What became large meanwhile comes back."""
    model = two_layers()
    rule = started(model, 0.5, 4, GMP, settle=0.5, every=1)
    assert kept(model) == [8, 4]
    rule.step()  # 0.5 + 0.5 / 8 of 12 weights are 6.75
    assert sum(kept(model)) == 7
    weight = model[0].parametrizations.weight.original
    with torch.no_grad():
        weight[1, 3] = -9.0  # the smallest, which was removed
    rule.step()
    assert kept(model) == [4, 2]
    assert model[0].weight.tolist() == [[8.0, -7.0, 6.0, 0.0], [0.0, 0.0, 0.0, -9.0]]
    assert model[1].weight[0].tolist() == pytest.approx([0.9, -0.8])
    with torch.no_grad():
        weight.mul_(-1)
        weight[0, 1] = 0.0
    rule.step()  # the budget is met: the masks rest
    assert model[0].weight.tolist() == [[-8.0, 0.0, -6.0, 0.0], [0.0, 0.0, 0.0, 9.0]]


@pytest.mark.parametrize(
    ("name", "counts"), [("gmp", [4, 2]), ("gmp-erk", [4, 2]), ("gmp-global", [5, 1]), ("gmp-lamp", [3, 3])]
)
def test_the_budget_is_split_by_the_rule_of_the_name(name, counts):
    model = two_layers()
    rule = started(model, 0.5, 1, METHODS[name], settle=1.0)
    rule.step()
    assert kept(model) == counts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_the_budget_is_exact_at_the_end_of_a_stage_of_any_length(name, every, steps):
    model = network()
    rule = started(model, 0.13, steps, METHODS[name], every=every)
    before = sum(kept(model))
    for _ in range(steps):
        rule.step()
        assert sum(kept(model)) <= before
        before = sum(kept(model))
    assert before == rule.budget.limit
    bake_masks(freeze_masks(model))
    assert sum(int(model.get_parameter(site).count_nonzero()) for site in rule.budget.sites) == rule.budget.limit


def test_only_what_is_kept_gets_a_gradient():
    model = two_layers()
    rule = started(model, 0.5, 1, GMP, settle=1.0)
    rule.step()
    model(torch.ones(1, 4)).sum().backward()
    gradient = model[0].parametrizations.weight.original.grad
    assert (gradient[~masks(model)["0.weight"].current()] == 0).all()
    assert (gradient != 0).any()


def test_a_score_of_ones_own_can_be_gradual():
    away_from_mean = Method(lambda weight: weight - weight.mean(), uniform, GRADUAL)
    model = two_layers()
    rule = started(model, 0.5, 1, away_from_mean, settle=1.0)
    rule.step()
    # The mean is 2: distances 6, 9, 4, 3 and 2, 5, 0, 1.
    assert masks(model)["0.weight"].current().tolist() == [[True, True, True, False], [False, True, False, False]]


def test_a_pruner_prunes_gradually():
    model = network()
    pruner = Pruner(model, keep=0.2, method=GMP_LAMP, steps=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.rand(8, 1, 4, 4)).square().mean().backward()
        optimizer.step()
        pruner.step()
    assert sum(kept(model)) == pruner.budget.limit
    pruner.freeze()
    pruner.bake()
    assert not masks(model)


def test_a_pruner_that_is_frozen_early_is_cut_to_the_budget():
    model = network()
    pruner = Pruner(model, keep=0.2, method=GMP_LAMP, steps=1000)
    pruner.step()
    pruner.freeze()
    assert sum(kept(model)) == pruner.budget.limit


def test_what_cannot_be_pruned_gradually_is_refused():
    with pytest.raises(ValueError, match="prunes single weights"):
        Pruning(method="gmp-lamp", granularity="channel")
    model = network()
    budget = channel_budget(model, torch.zeros(1, 1, 4, 4), keep=0.5)
    with pytest.raises(ValueError, match="gradual pruning removes single weights"):
        attach_masks(model, budget, GMP)
    budget = weight_budget(model, keep=0.5)
    with pytest.raises(ValueError, match="call attach_masks"):
        Gradual(model, budget, 10, method=GMP)
    attach_masks(model, budget, LWM)
    with pytest.raises(ValueError, match="gradual pruning is for those"):
        Gradual(model, budget, 10, method=HARP)


@pytest.mark.parametrize(("how", "said"), [({"settle": 0.0}, "settle=0.0"), ({"every": 0}, "every=0")])
def test_a_schedule_that_is_none_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        started(network(), 0.5, 10, GMP, **how)
    with pytest.raises(ValueError, match=f"gmp_{said}"):
        Pruning(**{f"gmp_{name}": value for name, value in how.items()})
