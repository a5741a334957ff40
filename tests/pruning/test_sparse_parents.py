"""Networks that are sparse already: what is zero is not chosen, a budget above what is left is refused, zeros can be kept."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.pruning import (
    HARP,
    LWM,
    METHODS,
    Descent,
    Gradual,
    Method,
    Penalty,
    Ramp,
    attach_masks,
    bake_masks,
    freeze_masks,
    keep_zeros,
    masks,
    weight_budget,
)
from harp.pruning.counts import exact_counts
from harp.pruning.keeps import uniform
from harp.recipes import Pruning, Recipe, Task, Training
from harp.stages.train import pretrain, prune

STEPS = 12
SCORED = [name for name, row in METHODS.items() if row.learn != frozenset({"weights"})]
"""All methods but Robust-ADMM, which moves what is zero like everything else."""


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 40), nn.ReLU(), nn.Linear(40, 3)
    )


def pruned(keep: float = 0.2, method: Method = HARP) -> nn.Sequential:
    """A baked network whose layers keep very different fractions."""
    model = network()
    budget = weight_budget(model, keep=keep)
    attach_masks(model, budget, method)
    with torch.no_grad():
        for mask, logit in zip(masks(model).values(), (0.0, -3.0, -1.0), strict=True):
            if mask.logit is not None:
                mask.logit.fill_(logit)
    return bake_masks(freeze_masks(model))


def learn(model: nn.Module, name: str, keep: float) -> int:
    """Prune as the method does, with every gradient at random, and count what is not zero."""
    method, budget = METHODS[name], weight_budget(model, keep=keep)
    attach_masks(model, budget, method)
    rule = None
    if method.rule == "ramp":
        rule = Penalty(model, budget, Ramp(1.0))
    elif "masks" in method.learn:
        rule = Gradual(model, budget, STEPS, method=method, every=2)
    elif "keeps" in method.learn:
        rule = Descent(model, budget, STEPS)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3, weight_decay=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(torch.rand(8, 1, 6, 6)).square().mean() + (0.0 if rule is None else rule.loss())
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        if rule is not None:
            rule.step()
    bake_masks(freeze_masks(model))
    return sum(int(model.get_parameter(site).count_nonzero()) for site in budget.sites)


@pytest.mark.parametrize("name", SCORED)
def test_a_network_that_is_pruned_again_keeps_its_whole_budget_in_weights_that_are_not_zero(name):
    torch.manual_seed(1)
    parent = pruned()
    child = copy.deepcopy(parent)
    assert learn(child, name, 0.05) == round(0.05 * 5312)
    for site, weight in child.named_parameters():
        if weight.dim() > 1:
            assert (weight[parent.get_parameter(site) == 0] == 0).all(), site


def test_uniform_quotas_stop_at_what_is_left_by_hand():
    """Of 8 + 8 weights 8 may stay, uniformly 4 + 4; the first layer has 2 that are not zero, so the second gets 6."""
    assert exact_counts({"a": 0.5, "b": 0.5}, {"a": 8, "b": 8}, 8, most={"a": 2, "b": 8}) == {"a": 2, "b": 6}
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 3.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]]))
        model[1].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    attach_masks(model, weight_budget(model, keep=0.5), LWM)
    assert [mask.count for mask in masks(model).values()] == [2, 6]


def test_a_score_that_likes_zeros_does_not_bring_them_back():
    small_first = Method(lambda weight: 1 / (weight.abs() + 1e-3), uniform)
    model = pruned()
    attach_masks(model, weight_budget(model, keep=0.05), small_first)
    bake_masks(freeze_masks(model))
    assert sum(int(p.count_nonzero()) for p in model.parameters() if p.dim() > 1) == round(0.05 * 5312)


@pytest.mark.parametrize("name", ["harp", "hydra", "lamp", "gmp-lamp"])
def test_a_parent_sparser_than_the_budget_is_refused_with_the_numbers(name):
    model = pruned(0.1)
    with pytest.raises(
        ValueError, match=r"keep=0\.2 leaves 1,062 of 5,312 weights, and only 531 .* choose keep below 0.1"
    ):
        attach_masks(model, weight_budget(model, keep=0.2), METHODS[name])
    assert not masks(model)


def test_a_learned_fraction_cannot_rise_above_what_is_left():
    model = pruned()
    left = {name: int(p.count_nonzero()) for name, p in model.named_parameters() if p.dim() > 1}
    attach_masks(model, weight_budget(model, keep=0.1), HARP)
    with torch.no_grad():
        for mask in masks(model).values():
            mask.logit.fill_(50.0)
    assert {name: mask.count for name, mask in masks(model).items()} == left


def test_a_layer_of_nothing_but_zeros_is_a_fresh_one():
    model = network()
    nn.init.zeros_(model[6].weight)
    attach_masks(model, weight_budget(model, keep=0.9), LWM)
    assert sum(mask.count for mask in masks(model).values()) == round(0.9 * 5312)


def test_zeros_are_kept_through_training_and_baking():
    model = keep_zeros(pruned())
    zeros = {name: ~mask.current() for name, mask in masks(model).items()}
    before = model[4].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(8, 1, 6, 6)).square().mean().backward()
        optimizer.step()
    assert not torch.equal(model[4].weight, before)
    bake_masks(model)
    for name, where in zeros.items():
        assert where.any()
        assert (model.get_parameter(name)[where] == 0).all()


def test_without_it_training_revives_them():
    """The control of the test above."""
    model = pruned()
    zeros = model[4].weight == 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.rand(8, 1, 6, 6)).square().mean().backward()
    optimizer.step()
    assert (model[4].weight[zeros] != 0).any()


def test_zeros_that_are_not_there_cannot_be_kept():
    with pytest.raises(ValueError, match="no weight that is zero"):
        keep_zeros(network())
    model = keep_zeros(pruned())
    with pytest.raises(ValueError, match="already has masks"):
        keep_zeros(model)


def test_a_layer_without_zeros_gets_no_mask():
    model = network()
    with torch.no_grad():
        model[4].weight[0, :5] = 0.0
    assert list(masks(keep_zeros(model))) == ["4.weight"]


def test_a_checkpoint_that_is_sparse_is_pruned_further_by_the_stages_or_refused(tiny: Path):
    fast = {"epochs": 1, "batch_size": 8, "objective": "natural"}
    recipe = Recipe(
        task=Task(data="tiny:data", model="tiny:network", validation=0.2),
        pretrain=Training(**fast),
        prune=Pruning(keep=0.3, **fast),
    )
    first = prune(recipe, pretrain(recipe, tiny / "dense").path, tiny / "first")
    again = pretrain(recipe, tiny / "sparse", weights=first.model)
    second = prune(Recipe(task=recipe.task, prune=Pruning(keep=0.1, **fast)), again.path, tiny / "second")
    from harp.checkpoint import load_tensors

    kept = sum(
        int(t.count_nonzero()) for name, t in load_tensors(second.model).items() if name in ("1.weight", "5.weight")
    )
    assert kept == round(0.1 * 168)
    with pytest.raises(ValueError, match="sparser than the budget already"):
        prune(Recipe(task=recipe.task, prune=Pruning(keep=0.5, **fast)), again.path, tiny / "third")
    assert not (tiny / "third").exists()
