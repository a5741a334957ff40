"""Budgets on channels: never more than the limit, within one channel of it, for every method, or a clear refusal."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from channel_networks import lively
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harp.models import build_model
from harp.pruning import (
    HARP,
    HYDRA,
    LWM,
    METHODS,
    RANDOM,
    STARTS,
    Admm,
    attach_masks,
    channel_budget,
    freeze_masks,
    masks,
    weight_budget,
)
from harp.pruning.channels import couple_channels
from harp.pruning.channels.counts import Limit, allowed_counts, counts_within
from harp.pruning.channels.starts import saliences

IMAGE = torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(1))


def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return lively(build_model("resnet_small", shape=(3, 14, 14), classes=5))


def counts_of(model: nn.Module) -> dict[str, int]:
    return {name: mask.count for name, mask in masks(model).items()}


def is_full(budget, counts) -> bool:
    """Whether no group can be given its next allowed count."""
    more = [
        {**counts, name: steps[steps.index(counts[name]) + 1]}
        for name, steps in budget.allowed.items()
        if counts[name] < steps[-1]
    ]
    return not any(budget.allows(bigger) for bigger in more)


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if "weights" not in row.learn])
def test_every_method_meets_the_budget_within_a_channel(method):
    model = small_resnet()
    budget = channel_budget(model, IMAGE, keep=0.3)
    attach_masks(model, budget, METHODS[method])
    if "keeps" not in METHODS[method].learn:
        assert float(budget.used(model).detach()) <= 0.3
    freeze_masks(model)
    counts = counts_of(model)
    assert budget.allows(counts)
    assert is_full(budget, counts)
    assert min(counts.values()) >= 1


@pytest.mark.parametrize("keep", [{"macs": 0.5, "parameters": 0.2}, {"macs": 0.2, "parameters": 0.9}])
def test_two_measures_are_both_met(keep):
    model = small_resnet()
    budget = channel_budget(model, IMAGE, keep=keep)
    attach_masks(model, budget, HARP)
    freeze_masks(model)
    counts = counts_of(model)
    for limit in budget.limits:
        assert limit.spent(counts) <= limit.most
    assert is_full(budget, counts)


def test_a_multiple_of_eight_or_all():
    model = small_resnet()
    budget = channel_budget(model, IMAGE, keep=0.4, multiple_of=8)
    attach_masks(model, budget, HYDRA)
    freeze_masks(model)
    counts = counts_of(model)
    assert all(n % 8 == 0 or n == budget.coupling.sizes[name] for name, n in counts.items())
    assert budget.allows(counts)


def test_a_multiple_counts_channels_not_groups_of_them():
    """A convolution of 8 groups of 2 loses whole groups: 4 channels are 2 of them."""
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, groups=8), nn.Conv2d(16, 4, 1))
    budget = channel_budget(model, IMAGE, keep=0.6, multiple_of=4)
    assert budget.allowed == {"0": [2, 4, 6, 8]}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(1, 8), st.floats(0.05, 1), st.integers(0, 2**31)
)
def test_any_fractions_come_to_counts_that_fit_and_are_full(sizes, step, keep, seed):
    names = [f"g{i}" for i in range(len(sizes))]
    cost = dict.fromkeys(pairwise(names), 3) | {(names[0],): 5, (): 7}
    allowed = {name: allowed_counts(size, step) for name, size in zip(names, sizes, strict=True)}
    total = Limit(cost, 0).spent(dict(zip(names, sizes, strict=True)))
    least = Limit(cost, 0).spent({name: steps[0] for name, steps in allowed.items()})
    limit = Limit(cost, max(least, int(keep * total)))
    keeps = dict(
        zip(names, torch.rand(len(names), generator=torch.Generator().manual_seed(seed)).tolist(), strict=True)
    )
    counts = counts_within([limit], keeps, allowed)
    assert limit.spent(counts) <= limit.most
    assert all(counts[name] in steps for name, steps in allowed.items())
    for name, steps in allowed.items():
        if counts[name] < steps[-1]:
            assert limit.spent({**counts, name: steps[steps.index(counts[name]) + 1]}) > limit.most
    again = counts_within([limit], {name: counts[name] / allowed[name][-1] for name in names}, allowed)
    assert again == counts


# where methods start


def test_importance_is_the_mean_weight_of_what_a_channel_writes_and_is_read_by():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0], [3.0, 3.0]]))
        model[1].weight.copy_(torch.tensor([[4.0, -1.0, 0.0]]))
    found = saliences(model, couple_channels(model, torch.zeros(1, 2)))
    assert torch.allclose(found["0"], torch.tensor([[6.0, 3.0, 6.0]]) / 3)


def test_lwm_keeps_the_channels_of_largest_importance():
    model = small_resnet()
    budget = channel_budget(model, IMAGE, keep=0.3)
    found = saliences(model, budget.coupling)
    attach_masks(model, budget, LWM)
    for name, mask in masks(model).items():
        kept = mask.current()
        assert found[name][kept].min() >= found[name][~kept].max()


def test_uniform_is_one_fraction_of_channels_that_spends_the_budget():
    model = small_resnet()
    attach_masks(model, channel_budget(model, IMAGE, keep=0.25), HYDRA)
    keeps = [mask.count / mask.size for mask in masks(model).values()]
    assert max(keeps) - min(keeps) < 0.1
    assert 0.25 < sum(keeps) / len(keeps) < 0.6


def test_erk_leaves_small_groups_denser():
    model = small_resnet()
    attach_masks(model, channel_budget(model, IMAGE, keep=0.25), METHODS["erk"])
    keeps = {name: mask.count / mask.size for name, mask in masks(model).items()}
    assert keeps["conv1"] > keeps["layer3.0.conv2"]


def test_learned_fractions_that_start_by_erk_start_denser_in_small_groups():
    model = small_resnet()
    attach_masks(model, channel_budget(model, IMAGE, keep=0.25), replace(HARP, keeps=STARTS["erk"]))
    keeps = {name: float(mask.keep.detach()) for name, mask in masks(model).items()}
    assert keeps["conv1"] > 2 * keeps["layer3.0.conv2"]


def test_random_differs_from_magnitude_and_from_itself():
    chosen = []
    for seed, method in ((0, LWM), (1, RANDOM), (2, RANDOM)):
        model = small_resnet()
        torch.manual_seed(seed)
        attach_masks(model, channel_budget(model, IMAGE, keep=0.3), method)
        chosen.append(torch.cat([mask.current().flatten() for mask in masks(model).values()]))
    assert not torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[1], chosen[2])


def test_admm_pulls_to_the_channels_that_lwm_cuts_to():
    model = small_resnet()
    budget = channel_budget(model, IMAGE, keep=0.4)
    admm = Admm(model, budget, 10, rho=0.1)
    admm.loss().backward()
    with admm.cut():
        cut = model(IMAGE)
    attach_masks(model, budget, LWM)
    assert torch.allclose(model(IMAGE), cut, atol=1e-6)
    assert set(admm.z) == {axis.tensor for axis in budget.coupling.read()}


# refusals


def test_a_budget_that_cannot_be_met_says_the_smallest_that_can():
    model = small_resnet()
    with pytest.raises(ValueError, match="the smallest reachable is keep=") as refused:
        channel_budget(model, IMAGE, keep=0.1, exclude=["layer2.*"])
    smallest = float(str(refused.value).rpartition("keep=")[2])
    assert smallest > 0.1
    channel_budget(model, IMAGE, keep=smallest, exclude=["layer2.*"])
    with pytest.raises(ValueError, match="smallest reachable"):
        channel_budget(model, IMAGE, keep=smallest - 2e-4, exclude=["layer2.*"])


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"keep": 0.0}, r"keep=0.0 must lie in \(0, 1\]"),
        ({"keep": {}}, "must be 'macs' or 'parameters'"),
        ({"keep": 0.5, "multiple_of": 0}, "multiple_of=0 must be at least 1"),
        ({"keep": 0.5, "exclude": ["nothing.*"]}, "match no weight and no module"),
        ({"keep": 0.5, "exclude": ["*"]}, "nothing is left to prune"),
    ],
)
def test_bad_settings_are_refused_by_name(settings_, message):
    with pytest.raises(ValueError, match=message):
        channel_budget(small_resnet(), IMAGE, keep=settings_.pop("keep"), **settings_)


@pytest.mark.parametrize("example", [torch.rand(2, 1, 14, 14), torch.rand(3, 14, 14)])
def test_an_example_that_the_model_cannot_take_is_named_with_its_shape(example):
    with pytest.raises(ValueError, match=re.escape(f"example={tuple(example.shape)}: the model cannot run")):
        channel_budget(small_resnet(), example, keep=0.5)


def test_an_exclude_that_is_a_string_is_refused():
    with pytest.raises(TypeError, match=r"write \['layer2.\*'\]"):
        channel_budget(small_resnet(), IMAGE, keep=0.5, exclude="layer2.*")


def test_a_budget_of_another_network_is_refused():
    budget = channel_budget(small_resnet(), IMAGE, keep=0.5)
    with pytest.raises(ValueError, match="make it from this very model"):
        attach_masks(build_model("resnet_small", shape=(1, 14, 14), classes=5), budget)


def test_masks_that_are_there_are_in_the_way():
    model = small_resnet()
    attach_masks(model, weight_budget(model, keep=0.5))
    with pytest.raises(ValueError, match="already has masks"):
        channel_budget(model, IMAGE, keep=0.5)


def test_the_model_is_left_as_it_was():
    model = small_resnet().train()
    model.bn1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    channel_budget(model, IMAGE, keep=0.5)
    assert model.training
    assert not model.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
