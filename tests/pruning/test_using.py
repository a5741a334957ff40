"""What a forward pass does with weights: a mask must be on what the network computes with, and on what it uses."""

import copy
import logging
import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from harp.pruning import (
    attach_masks,
    bake_masks,
    channel_budget,
    freeze_masks,
    macs,
    prunable_weights,
    shrink,
    summary,
    weight_budget,
)
from harp.pruning.methods import LWM
from harp.pruning.using import patterns, uses

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Remaking(nn.Module):
    """A convolution whose weight passes through a function, and a plain one before and after."""

    def __init__(self, remake):
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3), nn.Linear(8, 5)
        self.gain = nn.Parameter(torch.zeros(8, 1, 1, 1))
        self.remake = remake

    def forward(self, x):
        return self.head(functional.conv2d(self.stem(x), self.remake(self, self.conv.weight)).mean((2, 3)))


def standardised(model, weight):
    return functional.batch_norm(weight.flatten(1)[None].transpose(1, 2).contiguous().mT, None, None, training=True)[
        0
    ].view_as(weight)


@pytest.mark.parametrize(
    "remake",
    [
        standardised,
        lambda model, weight: weight - weight.mean(),
        lambda model, weight: model.gain * (weight - weight.mean((1, 2, 3), keepdim=True)),
        lambda model, weight: weight + 0.1 * torch.randn_like(weight),
        lambda model, weight: (weight.flatten(1) @ torch.ones(36, 36)).view_as(weight),
        lambda model, weight: weight.exp(),
    ],
)
def test_a_weight_that_is_remade_before_it_is_used_is_refused_and_the_proposed_exclude_works(remake):
    model = Remaking(remake)
    with pytest.raises(ValueError, match=r"conv\.weight .*remade in the forward pass") as caught:
        weight_budget(model, keep=0.5, example=IMAGES)
    exclude = eval(str(caught.value).rpartition("exclude=")[2])
    assert weight_budget(model, keep=0.5, exclude=exclude, example=IMAGES).sites == ("stem.weight", "head.weight")


@pytest.mark.parametrize(
    "remake",
    [
        lambda model, weight: weight,
        lambda model, weight: 3 * weight / weight.norm(),
        lambda model, weight: model.gain * weight.half().float(),
        lambda model, weight: weight.flip(2).transpose(2, 3).contiguous(),
        lambda model, weight: torch.cat([weight[:4], weight[4:]]),
    ],
)
def test_what_keeps_every_zero_where_it_was_or_moves_it_is_no_remaking(remake):
    assert weight_budget(Remaking(remake), keep=0.5, example=IMAGES).total == 12 + 288 + 40


def test_a_product_of_two_masked_weights_is_a_third_weight():
    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Linear(192, 4, bias=False), nn.Linear(4, 5, bias=False)

        def forward(self, x):
            return functional.linear(x.flatten(1), self.up.weight @ self.down.weight)

    with pytest.raises(ValueError, match=r"down\.weight, up\.weight are remade"):
        weight_budget(LowRank(), keep=0.5, example=IMAGES)


def test_what_a_layer_makes_of_a_learned_constant_is_no_weight():
    class Query(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.latent = nn.Linear(4, 4), nn.Linear(192, 4), nn.Parameter(torch.randn(5, 4))

        def forward(self, x):
            return self.key(x.flatten(1)) @ self.query(self.latent).T

    assert weight_budget(Query(), keep=0.5, example=IMAGES).sites == ("query.weight", "key.weight")


def test_heads_that_only_training_uses_are_a_warning_and_the_proposed_exclude_silences_it(caplog):
    model = torchvision.models.googlenet(num_classes=5, init_weights=False, aux_logits=True)
    images = torch.rand(1, 3, 64, 64)
    with caplog.at_level(logging.WARNING):
        weight_budget(model, keep=0.05, example=images)
    (record,) = caplog.records
    sizes = {name: weight.numel() for name, weight in prunable_weights(model).items()}
    idle = sum(size for name, size in sizes.items() if name.startswith("aux"))
    assert f"{idle:,} of the {sum(sizes.values()):,} weights" in record.message
    assert "exclude=['aux1.*', 'aux2.*']" in record.message
    caplog.clear()
    weight_budget(model, keep=0.05, exclude=["aux1.*", "aux2.*"], example=images)
    assert not caplog.records


def test_a_weight_that_another_image_may_use_is_not_called_idle(caplog):
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.dark, self.bright = nn.Linear(192, 5), nn.Linear(192, 5)

        def forward(self, x):
            return self.bright(x.flatten(1)) if x.mean() > 0.5 else self.dark(x.flatten(1))

    weight_budget(Early(), keep=0.5, example=IMAGES)
    assert not caplog.records


def test_a_look_at_a_pass_leaves_everything_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5))
    model[1].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters, modes = list(model.parameters()), [module.training for module in model.modules()]
    before = torch.get_rng_state()
    used = uses(model, IMAGES, {"0.weight": model[0].weight, "4.weight": model[4].weight}, training=True).used
    assert used == {"0.weight", "4.weight"}
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
    assert [module.training for module in model.modules()] == modes


def test_an_image_that_the_model_cannot_take_is_named():
    with pytest.raises(ValueError, match=r"example=\(2, 1, 8, 8\): the model cannot run on its first image"):
        weight_budget(Remaking(standardised), keep=0.5, example=IMAGES[:, :1])


def test_patterns_take_whole_modules_and_repeated_places_and_nothing_else():
    every = ["stem.weight", "body.0.a.weight", "body.0.b.weight", "body.1.a.weight", "aux.0.weight", "aux.1.weight"]
    assert patterns(["aux.0.weight", "aux.1.weight"], every) == ["aux.*"]
    assert patterns(["body.0.a.weight", "body.1.a.weight"], every) == ["body.*.a.weight"]
    assert patterns(["stem.weight", "body.0.b.weight"], every) == ["body.0.b.weight", "stem.weight"]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_is_measured_pruned_and_shrunk(dtype):
    images, plain = torch.rand(2, 3, 8, 8), Small().eval()
    model = copy.deepcopy(plain).to(dtype)
    assert macs(model, images) == macs(plain, images)
    assert summary(model, images).macs == summary(plain, images).macs
    assert weight_budget(model, keep=0.5, example=images).limit == weight_budget(plain, keep=0.5).limit
    attach_masks(model, channel_budget(model, images, keep=0.5), LWM)
    bake_masks(freeze_masks(model))
    expected = model(images.to(dtype))
    torch.testing.assert_close(shrink(model, images)(images.to(dtype)), expected, atol=1e-2, rtol=1e-2)
    assert macs(model, images) <= macs(plain, images) // 2


@pytest.mark.parametrize(
    "budget", [weight_budget, lambda model, **how: channel_budget(model, torch.rand(1, 3, 8, 8), **how)]
)
def test_a_program_of_torchscript_is_refused_by_its_name(budget):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.jit.trace(Small().eval(), torch.rand(1, 3, 8, 8))
    with pytest.raises(
        TypeError, match="a program of TorchScript, and cannot be pruned: give the module it was made from"
    ):
        budget(program, keep=0.5)
