"""hold_masks: every masked weight is computed once, and each forward still has a graph of its own."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.attacks import PGD, Threat, attacking
from harp.pruning import HARP, HYDRA, attach_masks, freeze_masks, hold_masks, masks, weight_budget


def masked(kind: str = "harp") -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3)
    ).to(memory_format=torch.channels_last)
    attach_masks(model, weight_budget(model, keep=0.2), HYDRA if kind == "hydra" else HARP)
    return freeze_masks(model) if kind == "frozen" else model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last), torch.tensor([0, 1, 2, 0, 1])


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def careless(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """An attack as people write them: it calls backward(), after a forward without gradients."""
    with torch.no_grad():
        x = x + 0.01 * torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) * model(x).sum().sign()
    for _ in range(2):
        x = x.detach().requires_grad_(True)
        F.cross_entropy(model(x), y).backward()
        x = x + 0.01 * x.grad.sign()
    model.zero_grad()
    return x.detach()


def first_under_inference(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        model(x)
    return x


ATTACKS = [PGD(Threat("linf", 0.1), steps=3, random_start=False), careless, first_under_inference]


@pytest.mark.parametrize("attack", ATTACKS, ids=["pgd", "careless", "inference"])
@pytest.mark.parametrize("kind", ["harp", "hydra", "frozen"])
def test_a_held_step_has_the_bits_of_an_unheld_one_whatever_the_attack_does(kind, attack):
    x, y = batch()
    free = masked(kind)
    held = copy.deepcopy(free)
    loss = F.cross_entropy(free(attack(free, x, y)), y)
    loss.backward()
    with hold_masks(held):
        held_loss = F.cross_entropy(held(attack(held, x, y)), y)
        held_loss.backward()
    assert torch.equal(loss, held_loss)
    expected, found = gradients(free), gradients(held)
    assert len(expected) >= 4
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert torch.equal(gradient, found[name]), name


@pytest.mark.parametrize("kind", ["harp", "frozen"])
def test_all_forwards_of_a_hold_share_one_masked_weight(kind):
    model = masked(kind)
    x, y = batch()
    with hold_masks(model):
        first = model[0].weight
        PGD(Threat("linf", 0.1), steps=2)(model, x, y)
        assert first.requires_grad
        assert model[0].weight.data_ptr() == first.data_ptr()
        with hold_masks(model):
            assert model[0].weight.data_ptr() == first.data_ptr()
        assert model[0].weight.data_ptr() == first.data_ptr()
    assert model[0].weight.data_ptr() != first.data_ptr()


@pytest.mark.parametrize("kind", ["harp", "frozen"])
def test_a_weight_that_is_perturbed_inside_a_hold_is_used_as_it_is(kind):
    model = masked(kind)
    with hold_masks(model), torch.no_grad():
        before = model[0].weight.clone()
        model[0].parametrizations.weight.original.mul_(2.0)
        assert torch.equal(model[0].weight, 2 * before)
        model[0].parametrizations.weight.original.mul_(0.5)
        assert torch.equal(model[0].weight, before)


def test_an_exception_releases_products_and_a_copy_has_none():
    model = masked()
    with hold_masks(model):
        model(batch()[0])
        twin = copy.deepcopy(model)
    with pytest.raises(RuntimeError), hold_masks(model):
        model(torch.rand(1, 3, 1, 1))  # passes the first layer's mask, and no convolution takes it
    for mask in [*masks(model).values(), *masks(twin).values()]:
        assert mask.held is None
        assert mask.product is None


def test_freezing_inside_a_hold_ends_it_for_the_masks():
    model = masked()
    with hold_masks(model):
        model(batch()[0])
        freeze_masks(model)
        for mask in masks(model).values():
            assert torch.equal(mask.current(), mask.mask.bool())
            assert mask.product is None
        assert model[0].weight.count_nonzero() == masks(model)["0.weight"].count


@pytest.mark.parametrize("kind", ["harp", "frozen"])
@pytest.mark.parametrize("hold", [True, False])
def test_masks_and_masked_weights_keep_the_memory_layout_of_their_weight(kind, hold):
    """Another layout would have each convolution reorder its filters in every pass."""
    model = masked(kind)
    with hold_masks(model) if hold else nullcontext():
        weight = model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert masks(model)["0.weight"].current().is_contiguous(memory_format=torch.channels_last)


def test_an_attack_traces_no_weight_and_leaves_what_learns_as_it_was():
    model = masked()
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    with hold_masks(model), attacking(model):
        assert model[0].weight.grad_fn is None
        assert not model[0].weight.requires_grad
    with pytest.raises(RuntimeError), attacking(model):
        model(torch.rand(1, 3, 1, 1))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert len(set(before.values())) == 2
