"""S2AP's step on a network of four weights, the one worked out in docs/explanation/plug-ins.md; and AWP's on a linear one."""

import math
from collections.abc import Callable

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from harp.data import InMemory
from harp.pruning import (
    HYDRA,
    Method,
    Sharpness,
    attach_masks,
    hold_masks,
    learned_scores,
    learned_weights,
    masks,
    perturbed,
    weight_budget,
)
from harp.recipes import Pruning, Training
from harp.training.loop import Course, train_step

WEIGHTS, SCORES = [[1.0, -2.0, 2.0, 0.0]], [[5.0, 3.0, 1.0, 1.0]]
X, Y = torch.ones(1, 4), torch.zeros(1, dtype=torch.int64)


def half_square(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """½ (output + 2)²."""
    return 0.5 * (model(x) + 2).square().sum()


def four_weights() -> nn.Module:
    """Two of the four weights stay: at first those of the scores 5 and 3."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(WEIGHTS))
    method = Method(lambda weight: torch.tensor(SCORES), HYDRA.keeps, HYDRA.learn)
    return attach_masks(model, weight_budget(model, keep=0.5), method)


def step(model: nn.Module, sharpness: Sharpness | None, objective: Callable, lr: float = 0.1) -> float:
    settings = Pruning(epochs=1, batch_size=1)
    images = InMemory(torch.zeros(1, 1, 2, 2), Y)
    course = Course("prune", settings, objective, images, lambda model: (0.0, 0.0), seed=0, sharpness=sharpness)
    learning = [p for p in model.parameters() if p.requires_grad]
    return train_step(model, course, Fabric(accelerator="cpu"), torch.optim.SGD(learning, lr=lr), X, Y).item()


def test_one_step_of_s2ap():
    """Mask (1, 1, 0, 0): output 1 − 2 = −1, residual 1, gradient of the scores 1 · (1, −2, 2, 0) of norm 3.
    ‖S‖ = √(25 + 9 + 1 + 1) = 6, so with ρ = ½ the move is 3 · (1, −2, 2, 0)/3, and S + z = (6, 1, 3, 1).
    There the mask is (1, 0, 1, 0): output 3, residual 5, gradient 5 · (1, −2, 2, 0).
    From S, at lr 0.1: (5, 3, 1, 1) − 0.1 · (5, −10, 10, 0) = (4.5, 4, 0, 1)."""
    model = four_weights()
    loss = step(model, Sharpness(0.5, learned_scores), half_square)
    assert loss == 0.5
    torch.testing.assert_close(masks(model)["weight"].scores.detach(), torch.tensor([[4.5, 4.0, 0.0, 1.0]]))


def test_the_plain_step_beside_it():
    model = four_weights()
    step(model, None, half_square)
    torch.testing.assert_close(masks(model)["weight"].scores.detach(), torch.tensor([[4.9, 3.2, 0.8, 1.0]]))


def test_the_mask_at_the_perturbed_scores_is_another_and_the_weights_rest():
    model = four_weights()
    mask = masks(model)["weight"]
    half_square(model, X, Y).backward()
    with perturbed(model, Sharpness(0.5, learned_scores)), hold_masks(model):
        torch.testing.assert_close(mask.scores.detach(), torch.tensor([[6.0, 1.0, 3.0, 1.0]]))
        assert mask.current().tolist() == [[True, False, True, False]]
        assert half_square(model, X, Y).item() == 12.5
    assert mask.scores.tolist() == SCORES
    assert mask.current().tolist() == [[True, True, False, False]]


def test_in_warm_up_the_step_is_the_plain_one():
    model = four_weights()
    step(model, Sharpness(0.5, learned_scores, warmup=1.0), half_square)
    torch.testing.assert_close(masks(model)["weight"].scores.detach(), torch.tensor([[4.9, 3.2, 0.8, 1.0]]))


@pytest.mark.parametrize("gamma", [0.01, 0.5])
def test_one_step_of_awp_on_a_linear_model_is_its_closed_form(gamma):
    """L = ½ r², r = w·x + 2, gradient r·x. The worst w + v in the ball ‖v‖ ≤ γ‖w‖ has v = γ‖w‖ · x/‖x‖ (r > 0), where
    the residual is r + γ‖w‖‖x‖: the step is w − lr · (r + γ‖w‖‖x‖) · x. Here w·x = 1, r = 3, ‖w‖ = 3, ‖x‖ = 2."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(WEIGHTS))
    step(model, Sharpness(gamma, learned_weights), half_square)
    expected = torch.tensor(WEIGHTS) - 0.1 * (3 + gamma * 3 * 2) * X
    torch.testing.assert_close(model.weight.detach(), expected)


def test_awp_leaves_no_perturbation_of_the_ball_that_is_worse():
    """Its v is the maximum of the loss over the ball, which no other point of the ball exceeds."""
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(WEIGHTS))
    half_square(model, X, Y).backward()
    with perturbed(model, Sharpness(0.1, learned_weights)):
        worst = half_square(model, X, Y).item()
    assert worst == pytest.approx(0.5 * (3 + 0.1 * 3 * 2) ** 2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        v = torch.randn(1, 4, generator=generator)
        moved = torch.tensor(WEIGHTS) + 0.1 * 3 * v / v.norm()
        assert 0.5 * ((moved * X).sum() + 2) ** 2 <= worst * (1 + 1e-6)


def test_the_settings_of_a_recipe_make_the_same_plug_ins():
    from harp.training.build import sharpness_of

    model = four_weights()
    found = sharpness_of(model, Pruning(epochs=8, method="hydra", s2ap_rho=0.5, awp_gamma=0.1))
    assert found == Sharpness(0.5, learned_scores, warmup=2.0)
    assert sharpness_of(model, Pruning(epochs=40, s2ap_rho=0.5)).warmup == 5.0  # type: ignore[union-attr]
    assert sharpness_of(model, Pruning(awp_gamma=0.1)) is None  # the weights rest
    assert sharpness_of(nn.Linear(2, 2), Training(awp_gamma=0.1)) == Sharpness(0.1, learned_weights)
    assert sharpness_of(nn.Linear(2, 2), Training()) is None
    assert math.isclose(Pruning(epochs=20).s2ap_start, 5.0)
