"""The ball of an adversary: what it refuses, where projections end, how random starts are spread."""

import math

import jaxtyping
import pytest
import torch

from harp.attacks import Threat
from harp.attacks.guard import check_images
from harp.attacks.threat import unit_l2

EPSILONS = [0.0, 1e-9, 1e-4, 8 / 255, 0.031, 0.1, 0.5, 1.0]


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def distance(threat: Threat, x_adv: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Measured in float64, each image alone."""
    delta = (x_adv.double() - x.double()).flatten(1)
    return delta.abs().amax(1) if threat.norm == "linf" else delta.square().sum(1).sqrt()


# refusals


@pytest.mark.parametrize("eps", [-0.1, 1.01, 8.0, math.nan, math.inf])
def test_eps_outside_the_scale_of_images_is_refused(eps):
    with pytest.raises(ValueError, match=r"eps=.*\[0, 1\].*write 8 / 255, not 8"):
        Threat("linf", eps)


@pytest.mark.parametrize("eps", [-0.1, math.nan, math.inf])
def test_l2_may_go_beyond_one_but_not_without_end(eps):
    with pytest.raises(ValueError, match=r"eps=.* must be finite and not negative"):
        Threat("l2", eps)
    assert Threat("l2", 3.0).eps == 3.0


@pytest.mark.parametrize("eps", [True, "0.1", None])
def test_booleans_and_strings_are_no_eps(eps, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse them first, here only
    for norm in ("linf", "l2"):
        with pytest.raises(ValueError, match=f"eps={eps!r} must"):
            Threat(norm, eps)


def test_an_unknown_norm_is_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="norm='l1' is not known; choose 'linf' or 'l2'"):
        Threat("l1", 0.1)


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf])
def test_images_outside_zero_and_one_are_refused(value):
    x = images(2, 1, 3, 3)
    check_images(x)
    x[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match=r"images x must lie in \[0, 1\]"):
        check_images(x)


def test_threats_say_what_they_are():
    assert str(Threat("linf", 8 / 255)) == "linf 8/255"
    assert str(Threat("l2", 0.5)) == "l2 0.5"


# projection


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", EPSILONS)
@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (6, 5), (6, 1)])
def test_nothing_leaves_the_ball_or_the_unit_interval_by_a_single_bit(norm, eps, shape):
    threat = Threat(norm, eps)
    for seed, reach in enumerate((0.01, 0.99, 1.0, 1.01, 5.0)):
        x = images(*shape, seed=seed)
        x = (x * 255).round() / 255 if seed % 2 else x
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(100 + seed))
        for x_adv in (threat.project(x + eps * reach * noise, x), threat.start(x)):
            assert distance(threat, x_adv, x).max() <= eps
            assert x_adv.min() >= 0
            assert x_adv.max() <= 1


@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (3, 3, 224, 224)])
@pytest.mark.parametrize("eps", [0.5, 3.0])
def test_large_images_reach_the_edge_of_the_l2_ball_and_no_further(shape, eps):
    x = 0.25 + 0.5 * images(*shape)
    x_adv = Threat("l2", eps).project(x + 0.1 * torch.randn(shape), x)
    assert distance(Threat("l2", eps), x_adv, x).max() <= eps
    assert distance(Threat("l2", eps), x_adv, x).min() >= eps * (1 - 1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_radius_of_zero_leaves_images_as_they_are(norm):
    x = images(4, 1, 5, 5)
    assert torch.equal(Threat(norm, 0.0).project(x + 0.3, x), x)
    assert torch.equal(Threat(norm, 0.0).start(x), x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_well_inside_stay_where_they_are(norm):
    x = 0.2 + 0.6 * images(4, 1, 5, 5)
    x_adv = x + 0.01 * (images(4, 1, 5, 5, seed=1) - 0.5)
    assert torch.allclose(Threat(norm, 0.1).project(x_adv, x), x_adv, atol=1e-7)


def test_projection_by_hand():
    x = torch.tensor([[0.5, 0.05, 0.95]])
    far = torch.tensor([[0.9, -0.9, 1.9]])
    assert torch.allclose(Threat("linf", 0.1).project(far, x), torch.tensor([[0.6, 0.0, 1.0]]), atol=1e-6)
    # l2: delta (0.3, 0, 0.4) has length 0.5; eps 0.25 halves it: 0.5 + 0.15 and 0.5 + 0.2.
    x = torch.tensor([[0.5, 0.5, 0.5]])
    assert torch.allclose(
        Threat("l2", 0.25).project(x + torch.tensor([[0.3, 0.0, 0.4]]), x), torch.tensor([[0.65, 0.5, 0.7]]), atol=1e-4
    )


def test_each_image_is_projected_alone():
    x = torch.full((2, 4), 0.5)
    x_adv = Threat("l2", 0.1).project(x + torch.tensor([[0.01], [0.4]]), x)
    assert torch.allclose(x_adv[0], torch.full((4,), 0.51), atol=1e-6)
    assert torch.allclose(x_adv[1], torch.full((4,), 0.55), atol=1e-4)


# random starts


def test_linf_starts_are_uniform_in_the_cube():
    torch.manual_seed(0)
    x = torch.full((2000, 10), 0.5)
    moved = (Threat("linf", 0.1).start(x) - x) / 0.1
    assert moved.mean().abs() < 0.02
    assert moved.var() == pytest.approx(1 / 3, rel=0.03)
    assert (moved.abs() < 0.5).float().mean() == pytest.approx(0.5, abs=0.02)


def test_l2_starts_are_uniform_in_the_volume_of_the_ball():
    """P(‖δ‖ ≤ t·eps) = t^d, and no direction is preferred."""
    torch.manual_seed(0)
    x = torch.full((20_000, 3), 0.5)
    moved = (Threat("l2", 0.1).start(x) - x) / 0.1
    radius = moved.norm(dim=1)
    for t in (0.5, 0.8):
        assert (radius <= t).float().mean() == pytest.approx(t**3, abs=0.015)
    assert moved.mean(0).abs().max() < 0.02


def test_starts_follow_the_global_seed():
    x = images(3, 1, 4, 4)
    for norm in ("linf", "l2"):
        torch.manual_seed(7)
        first = Threat(norm, 0.1).start(x)
        torch.manual_seed(7)
        assert torch.equal(first, Threat(norm, 0.1).start(x))


# directions


def test_the_steepest_direction_of_unit_norm():
    gradient = torch.tensor([[3.0, 0.0, -4.0]])
    assert Threat("linf", 0.1).steepest(gradient).tolist() == [[1.0, 0.0, -1.0]]
    assert torch.allclose(Threat("l2", 0.1).steepest(gradient), torch.tensor([[0.6, 0.0, -0.8]]))


@pytest.mark.parametrize("size", [1e-35, 1e-20, 1e-3, 1e25])
def test_the_direction_of_a_vanishing_gradient_has_unit_length_all_the_same(size):
    """Squares of 1e-25 are 0 in float32: a plain norm would turn a confident network's gradient into no step at all."""
    direction = unit_l2(size * torch.tensor([[3.0, -4.0], [0.0, 1.0]]))
    assert torch.allclose(direction, torch.tensor([[0.6, -0.8], [0.0, 1.0]]), atol=1e-5)


def test_a_gradient_of_zero_has_no_direction():
    assert unit_l2(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
