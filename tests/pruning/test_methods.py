"""Every row of the method table, on one budget: exact, never an empty layer, learning what it says."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.pruning import (
    HARP,
    HYDRA,
    METHODS,
    RANDOM,
    RATES_ONLY,
    Method,
    attach_masks,
    bake_masks,
    freeze_masks,
    masks,
    weight_budget,
)
from harp.pruning.keeps import erk, lamp, starting_at, uniform
from harp.pruning.scores import scaled_magnitude

LEARNED = {
    "harp": {"scores", "logit"},
    "harp-published": {"scores", "logit"},
    "rates-only": {"logit"},
    "hydra": {"scores"},
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 16, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 30),
        nn.Linear(30, 5),
    )


def constant() -> nn.Module:
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    return model


MASKING = [name for name, method in METHODS.items() if "weights" not in method.learn]
"""The methods that attach masks and learn with them; Robust-ADMM and gradual pruning have tests of their own."""
TOTAL = 36 + 576 + 7680 + 150


@pytest.mark.parametrize("keep", [0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("method", MASKING)
@pytest.mark.parametrize("build", [network, constant])
def test_the_budget_is_exact_and_no_layer_empty_faults_4_and_10_of_the_published_code(build, method, keep):
    """Fault 4: the saved model could exceed its budget. Fault 10: HYDRA never applied the requested fraction."""
    model = build()
    attach_masks(model, weight_budget(model, keep=keep), METHODS[method])
    freeze_masks(model)
    kept = {name: int(mask.current().sum()) for name, mask in masks(model).items()}
    assert sum(kept.values()) == round(keep * TOTAL)
    assert min(kept.values()) >= 1
    bake_masks(model)
    assert sum(int(model.get_parameter(name).count_nonzero()) for name in kept) == round(keep * TOTAL)


@pytest.mark.parametrize("method", ["harp", "rates-only"])
def test_the_budget_is_exact_wherever_learning_ended_fault_4_of_the_published_code(method):
    """Fault 4: reaching the target once was enough for ever; if it was never reached, no file was written."""
    for seed in range(5):
        model = network()
        attach_masks(model, weight_budget(model, keep=0.02), METHODS[method])
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for mask in masks(model).values():
                mask.logit.add_(6 * torch.randn((), generator=generator))
        freeze_masks(model)
        assert sum(mask.count for mask in masks(model).values()) == round(0.02 * TOTAL)
        assert min(mask.count for mask in masks(model).values()) >= 1


@pytest.mark.parametrize("method", MASKING)
def test_a_method_learns_what_its_row_says_and_weights_rest(method):
    model = network()
    attach_masks(model, weight_budget(model, keep=0.05), METHODS[method])
    learned = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad and "param" in name}
    assert learned == LEARNED.get(method, set())
    assert all(not p.requires_grad for name, p in model.named_parameters() if name.endswith(("original", "3.bias")))


@pytest.mark.parametrize("method", sorted(set(MASKING) - {"harp", "harp-published", "rates-only"}))
def test_fixed_fractions_spend_the_budget_from_the_start_fault_10_of_the_published_code(method):
    """Fault 10: HYDRA through the same code never applied the requested fraction."""
    model = network()
    budget = weight_budget(model, keep=0.013)
    attach_masks(model, budget, METHODS[method])
    assert sum(int(mask.current().sum()) for mask in masks(model).values()) == round(0.013 * TOTAL)
    during = {name: mask.current().clone() for name, mask in masks(model).items()}
    freeze_masks(model)
    for name, mask in masks(model).items():
        assert torch.equal(mask.current(), during[name]), name


@pytest.mark.parametrize("method", [HARP, RATES_ONLY])
def test_learned_fractions_start_at_a_tenth_whatever_the_target(method):
    for keep, start in ((0.001, 0.1), (0.05, 0.1), (0.3, 0.3)):
        model = network()
        attach_masks(model, weight_budget(model, keep=keep), method)
        for mask in masks(model).values():
            assert float(mask.keep.detach()) == pytest.approx(start, rel=1e-5)
            assert mask.keep_min == pytest.approx(0.1 * keep)


def test_learned_fractions_cannot_fall_below_a_tenth_of_the_target():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.2), HARP)
    mask = masks(model)["6.weight"]
    with torch.no_grad():
        mask.logit.fill_(-100.0)
    assert float(mask.keep.detach()) == pytest.approx(0.02)


@pytest.mark.parametrize("split", [uniform, erk, lamp])
def test_harp_can_start_from_every_split_and_each_fraction_can_move(split):
    """ERK gives small layers a fraction of 1, which has no logit: they start a little below, able to come down."""
    model = network()
    budget = weight_budget(model, keep=0.01)
    attach_masks(model, budget, Method(scaled_magnitude, starting_at(0.1, split), HARP.learn))
    assert all(mask.logit is not None for mask in masks(model).values())
    assert budget.used(model).item() == pytest.approx(0.1, rel=0.02)
    budget.excess(model).backward()
    for mask in masks(model).values():
        assert mask.logit.grad > 0


def test_a_layer_of_one_weight_keeps_it_and_learns_no_fraction():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 50))
    budget = weight_budget(model, keep=0.1)
    attach_masks(model, budget, HARP)
    assert masks(model)["0.weight"].logit is None
    model(torch.rand(2, 1)).sum().backward()
    freeze_masks(model)
    assert [mask.count for mask in masks(model).values()] == [1, 4]


def test_keeping_everything_learns_no_fractions():
    model = network()
    attach_masks(model, weight_budget(model, keep=1.0), HARP)
    assert all(mask.logit is None and mask.current().all() for mask in masks(model).values())


def test_rates_only_keeps_the_order_of_the_weights():
    model = network()
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    attach_masks(model, weight_budget(model, keep=0.05), RATES_ONLY)
    freeze_masks(model)
    for name, mask in masks(model).items():
        kept = mask.current()
        assert weights[name][kept].abs().min() >= weights[name][~kept].abs().max()


def test_random_depends_on_the_seed_alone():
    model = network()
    twin = copy.deepcopy(model)
    for m in (model, twin):
        torch.manual_seed(11)
        attach_masks(m, weight_budget(m, keep=0.1), RANDOM)
    for name, mask in masks(model).items():
        assert torch.equal(mask.current(), masks(twin)[name].current())


def test_hydra_can_exchange_weights_by_learning_scores():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.1), HYDRA)
    before = masks(model)["6.weight"].current().clone()
    optimizer = torch.optim.SGD([m.scores for m in masks(model).values()], lr=100.0)
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8) % 5
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    after = masks(model)["6.weight"].current()
    assert not torch.equal(before, after)
    assert before.sum() == after.sum()


@pytest.mark.parametrize("learn", [{"biases"}, {"scores", "biases"}, {"weights", "scores"}])
def test_a_method_learns_scores_and_keeps_or_weights_alone(learn: set[str]):
    with pytest.raises(ValueError, match="learn="):
        Method(scaled_magnitude, uniform, frozenset(learn))
    assert Method(scaled_magnitude, uniform, frozenset({"weights"})).learn == {"weights"}
