"""Masked weights in the hands of others: who assigns to one, compiles the network, or averages it."""

import logging

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, get_swa_avg_fn

from harp.pruning import HYDRA, attach_masks, bake_masks, channel_budget, freeze_masks, hold_masks, masks, weight_budget

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.mark.parametrize("value", [nn.Parameter(torch.zeros(4, 3, 3, 3)), torch.zeros(4, 3, 3, 3)])
def test_assigning_to_a_masked_weight_says_where_to_write(value):
    model = network()
    attach_masks(model, weight_budget(model, keep=0.5))
    with pytest.raises(TypeError, match=r"the weight of this Conv2d is computed as weight · mask") as caught:
        model[0].weight = value
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(value)
    assert "parametrizations.weight.original.copy_(value)" in str(caught.value)
    assert not model[0].weight.any()


def test_everything_else_can_be_assigned_and_after_baking_the_weight_too():
    model = network()
    attach_masks(model, weight_budget(model, keep=0.5))
    model[0].bias = nn.Parameter(torch.ones(4))
    model[0].note = "mine"
    bake_masks(freeze_masks(model))
    model[0].weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
    assert model[0].note == "mine"
    assert not model[0].weight.any()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at it
@pytest.mark.parametrize(
    "budget", [lambda m: weight_budget(m, keep=0.3), lambda m: channel_budget(m, IMAGES, keep=0.8)]
)
def test_a_compiled_network_computes_with_masks_that_learn_held_or_not(budget):
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    model = network()
    attach_masks(model, budget(model), HYDRA)
    compiled = torch.compile(model, backend="eager")
    expected = model(IMAGES)
    found = compiled(IMAGES)
    assert torch.equal(found, expected)
    with hold_masks(model):
        assert torch.equal(compiled(IMAGES), expected)
    gradients = []
    for outputs in (found, expected):
        model.zero_grad()
        outputs.square().sum().backward()
        gradients.append([mask.scores.grad.clone() for mask in masks(model).values()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    with torch.no_grad():
        for mask in masks(model).values():
            mask.scores.normal_()
    assert torch.equal(compiled(IMAGES), model(IMAGES))
    assert not torch.equal(compiled(IMAGES), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_buffers": True, "multi_avg_fn": get_ema_multi_avg_fn(0.9)},
        {"use_buffers": True, "multi_avg_fn": get_ema_multi_avg_fn(0.9999)},
        {"use_buffers": True, "avg_fn": get_ema_avg_fn(0.999)},
        {"use_buffers": True, "avg_fn": get_swa_avg_fn()},
        {"use_buffers": True},
        {"use_buffers": False},
    ],
    ids=["EMA", "slow EMA", "EMA by tensor", "SWA by tensor", "SWA", "SWA without buffers"],
)
def test_an_averaged_network_keeps_the_frozen_masks(settings):
    model = network()
    attach_masks(model, weight_budget(model, keep=0.1))
    averaged = AveragedModel(freeze_masks(model), **settings)
    for _ in range(3):
        averaged.update_parameters(model)
    torch.testing.assert_close(averaged.module(IMAGES), model(IMAGES))
    found, expected = masks(averaged.module), masks(model)
    assert all(torch.equal(found[name].current(), mask.current()) for name, mask in expected.items())
