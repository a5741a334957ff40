"""Perturb and restore: every bit as before, batch norm counts once, and what is moved is what learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn

from harp.data import InMemory
from harp.objectives import natural
from harp.pruning import (
    HARP,
    HYDRA,
    LWM,
    RATES_ONLY,
    Admm,
    Sharpness,
    attach_masks,
    freeze_masks,
    hold_masks,
    learned_scores,
    learned_weights,
    masks,
    perturbed,
    weight_budget,
)
from harp.pruning.sharpness import ascent
from harp.recipes import Training
from harp.training.loop import Course, train_step


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8, bias=False), nn.Linear(8, 3)
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: t.detach().cpu().numpy().tobytes() for name, t in model.state_dict().items()}


def with_gradients(model: nn.Module) -> nn.Module:
    x, y = batch()
    F.cross_entropy(model(x), y).backward()
    return model


KINDS = {
    "scores": (lambda m: attach_masks(m, weight_budget(m, keep=0.2), HARP), learned_scores),
    "weights": (lambda m: m, learned_weights),
    "frozen": (lambda m: freeze_masks(attach_masks(m, weight_budget(m, keep=0.2), LWM)), learned_weights),
}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6), st.floats(1e-6, 10), st.booleans())
def test_every_bit_is_as_before_whatever_happens_inside(kind, seed, radius, fails):
    make, moved = KINDS[kind]
    model = with_gradients(make(network(seed)))
    before = bits(model)
    held = {name: mask.current().clone() for name, mask in masks(model).items()}

    def inside() -> None:
        with perturbed(model, Sharpness(radius, moved)), hold_masks(model):
            assert bits(model) != before
            with_gradients(model)  # batch norm in train mode, too
            if fails:
                raise RuntimeError("the attack fell over")

    if fails:
        with pytest.raises(RuntimeError, match="fell over"):
            inside()
    else:
        inside()
    assert bits(model) == before
    assert all(mask.held is None and torch.equal(mask.current(), held[name]) for name, mask in masks(model).items())


def test_to_subtract_what_was_added_would_not_restore():
    """The control: floating point forgets, so the copy is needed."""
    model = with_gradients(network())
    before = bits(model)
    with torch.no_grad():
        for parameter in learned_weights(model):
            z = ascent(parameter.detach(), parameter.grad, 0.1)
            parameter.add_(z).sub_(z)
    assert bits(model) != before


def test_a_buffer_that_a_forward_replaces_is_put_back():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.weight = nn.Parameter(torch.ones(2, 2))

        def forward(self, x):
            self.seen = self.seen + 1  # another tensor
            return x @ self.weight

    model = Counts()
    model(torch.ones(1, 2)).sum().backward()
    buffer = model.seen
    with perturbed(model, Sharpness(0.1, learned_weights)):
        model(torch.ones(1, 2))
    assert model.seen is buffer
    assert buffer.item() == 1


@pytest.mark.parametrize("radius", [0.001, 0.3])
def test_a_move_is_of_relative_length_along_the_gradient(radius):
    value, gradient = torch.randn(3, 5), torch.randn(3, 5)
    z = ascent(value, gradient, radius)
    assert z.norm().item() == pytest.approx(radius * value.norm().item(), rel=1e-5)
    assert F.cosine_similarity(z.flatten(), gradient.flatten(), dim=0).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_loss_scaling_changes_no_move(size):
    value, gradient = torch.randn(3, 5), torch.randn(3, 5)
    torch.testing.assert_close(ascent(value, gradient * size, 0.1), ascent(value, gradient, 0.1))


@pytest.mark.parametrize(
    "gradient", [None, torch.zeros(2), torch.tensor([1.0, math.inf]), torch.tensor([1.0, math.nan])]
)
def test_without_a_direction_nothing_moves(gradient):
    assert ascent(torch.ones(2), gradient, 0.1).tolist() == [0, 0]


def test_s2ap_moves_scores_that_learn_and_awp_weights_that_learn():
    dense = network()
    assert learned_scores(dense) == {}
    assert [tuple(p.shape) for p in learned_weights(dense)] == [(4, 1, 3, 3), (8, 64), (3, 8)]
    for method, count in ((HARP, 3), (HYDRA, 3), (RATES_ONLY, 0), (LWM, 0)):
        model = attach_masks(network(), weight_budget(network(), keep=0.2), method)
        assert len(learned_scores(model)) == count
        assert learned_weights(model) == {}
        freeze_masks(model)
        assert learned_scores(model) == {}
        assert len(learned_weights(model)) == 3


def test_under_a_mask_awp_goes_by_the_weights_that_stay_and_moves_no_other():
    model = freeze_masks(attach_masks(network(), weight_budget(network(), keep=0.2), LWM))
    with_gradients(model)
    layer = model[4]
    original, kept = layer.parametrizations.weight.original, masks(model)["4.weight"].current()
    before, norm = original.detach().clone(), layer.weight.detach().norm().item()
    assert norm < original.norm().item()
    with perturbed(model, Sharpness(0.1, learned_weights)):
        move = original.detach() - before
        assert move.norm().item() == pytest.approx(0.1 * norm, rel=1e-4)
        assert move[~kept].count_nonzero() == 0


def test_batch_norm_counts_a_step_of_awp_once_and_at_the_weights_that_stay():
    x, y = batch()
    states = []
    for sharpness in (None, Sharpness(0.5, learned_weights)):
        model = network()
        plan = Course("x", Training(), natural(), InMemory(x, y), lambda m: (0.0, 0.0), seed=0, sharpness=sharpness)
        train_step(model, plan, Fabric(accelerator="cpu"), torch.optim.SGD(model.parameters(), lr=0.1), x, y)
        states.append(({n: b.clone() for n, b in model[1].named_buffers()}, model[0].weight.detach().clone()))
    (plain, weight), (awp, other) = states
    assert awp["num_batches_tracked"] == 1
    assert all(torch.equal(plain[name], awp[name]) for name in plain)
    assert not torch.equal(weight, other)


def test_every_rank_ascends_along_the_mean_of_their_gradients(monkeypatch):
    """Else they would stand at different points, and their second gradients would be of different networks."""
    x, y = batch()
    model = network()
    mean = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    calls, points = 0, []

    def average(fabric: Fabric, model: nn.Module) -> None:
        nonlocal calls
        calls += 1
        for name, parameter in model.named_parameters():
            parameter.grad.copy_(mean[name])

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        points.append(model[4].weight.detach().clone())
        return F.cross_entropy(model(x), y)

    monkeypatch.setattr("harp.training.loop.average_gradients", average)
    sharp = Sharpness(0.5, learned_weights)
    plan = Course("x", Training(), loss, InMemory(x, y), lambda m: (0.0, 0.0), seed=0, sharpness=sharp)
    before = model[4].weight.detach().clone()
    train_step(model, plan, Fabric(accelerator="cpu"), torch.optim.SGD(model.parameters(), lr=0.1), x, y)
    assert calls == 2
    torch.testing.assert_close(points[1] - points[0], ascent(before, mean["4.weight"], 0.5), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(model[4].weight.detach(), before - 0.1 * mean["4.weight"])


def test_a_plug_in_works_in_mixed_precision():
    x, y = batch()
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    model = attach_masks(network(), weight_budget(network(), keep=0.2), HARP)
    sharp = Sharpness(0.5, learned_scores)
    plan = Course("x", Training(), natural(), InMemory(x, y), lambda m: (0.0, 0.0), seed=0, sharpness=sharp)
    learning = [p for p in model.parameters() if p.requires_grad]
    loss = train_step(model, plan, fabric, fabric.setup_optimizers(torch.optim.SGD(learning, lr=0.1)), x, y).item()
    assert math.isfinite(loss)
    assert all(mask.scores.dtype == torch.float32 and mask.scores.isfinite().all() for mask in masks(model).values())


def test_a_rules_penalty_is_that_of_the_point_that_stays():
    """ADMM pulls at θ and not at θ + v: with a loss linear in the weights, whose gradient is everywhere the same, AWP
    changes nothing."""
    x, y = batch()

    def linear(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return model[0].weight.sum() + model[4].weight.sum()

    moved = []
    for sharpness in (None, Sharpness(0.5, learned_weights)):
        model = network()
        rule = Admm(model, weight_budget(model, keep=0.2), 10, rho=0.5)
        plan = Course("x", Training(), linear, InMemory(x, y), lambda m: (0.0, 0.0), 0, rule=rule, sharpness=sharpness)
        train_step(model, plan, Fabric(accelerator="cpu"), torch.optim.SGD(model.parameters(), lr=0.1), x, y)
        moved.append(model[4].weight.detach().clone())
    assert torch.equal(*moved)
    assert not torch.equal(moved[0], network()[4].weight - 0.1)  # ADMM did pull


def test_scores_of_whole_channels_are_moved_as_any_other():
    """Granularity is the shape of the scores: nothing here asks for it."""
    model = network()
    attach_masks(model, weight_budget(model, keep=0.5), HYDRA)
    mask = masks(model)["4.weight"]
    mask.scores = nn.Parameter(torch.rand(1, 64))
    mask.quota = torch.tensor(32)
    with_gradients(model)
    before = mask.scores.detach().clone()
    with perturbed(model, Sharpness(0.3, learned_scores)):
        assert (mask.scores - before).norm().item() == pytest.approx(0.3 * before.norm().item(), rel=1e-5)
        with_gradients(model)
    assert torch.equal(mask.scores, before)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ValueError, match="radius="):
        Sharpness(radius, learned_weights)
