"""What holds for any image, radius and direction: the ball and the unit interval, to the last bit."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harp.attacks import PGD, Threat, cw_margin
from harp.objectives import divergence

quick = settings(max_examples=60, deadline=None, derandomize=True)
pixels = st.one_of(
    st.floats(0, 1, width=32), st.integers(0, 255).map(lambda v: v / 255), st.sampled_from([0.0, 1.0, 8 / 255, 0.031])
)
radii = st.one_of(
    st.floats(0, 1), st.integers(0, 255).map(lambda v: v / 255), st.sampled_from([0.0, 1e-12, 0.031, 1.0])
)
norms = st.sampled_from(["linf", "l2"])
moves = st.floats(-2, 2, width=32)


def inside(threat: Threat, x_adv: torch.Tensor, x: torch.Tensor) -> bool:
    delta = (x_adv.double() - x.double()).flatten(1)
    distance = delta.abs().amax(1) if threat.norm == "linf" else delta.square().sum(1).sqrt()
    return bool((distance <= threat.eps).all() and x_adv.min() >= 0 and x_adv.max() <= 1)


@settings(quick, max_examples=200)
@given(norms, radii, st.lists(st.tuples(pixels, moves), min_size=1, max_size=8))
def test_projections_end_inside(norm, eps, pairs):
    x, move = torch.tensor(pairs, dtype=torch.float32).T.unsqueeze(1)
    threat = Threat(norm, eps)
    x_adv = threat.project(x + move, x)
    assert inside(threat, x_adv, x)
    again = threat.project(x_adv, x)
    assert torch.equal(again, x_adv) if norm == "linf" else torch.allclose(again, x_adv, rtol=1e-4, atol=1e-6)


@quick
@given(radii, st.lists(st.tuples(pixels, moves), min_size=1, max_size=8))
def test_linf_projection_is_the_nearest_point(eps, pairs):
    x, move = torch.tensor(pairs, dtype=torch.float32).T.unsqueeze(1)
    nearest = (x + move).double().clamp(x.double() - eps, x.double() + eps).clamp(0, 1)
    assert torch.allclose(Threat("linf", eps).project(x + move, x).double(), nearest, rtol=0, atol=2e-7)


@quick
@given(norms, radii, st.integers(0, 2**31), st.integers(1, 40))
def test_random_starts_begin_inside(norm, eps, seed, size):
    torch.manual_seed(seed)
    x = torch.rand(3, size).round(decimals=seed % 4)
    assert inside(Threat(norm, eps), Threat(norm, eps).start(x), x)


@settings(quick, max_examples=40)
@given(norms, radii, st.integers(1, 4), st.floats(1e-6, 10), st.sampled_from(["ce", "cw"]), st.integers(0, 1000))
def test_attacks_end_inside_whatever_the_step(norm, eps, steps, step_size, loss, seed):
    torch.manual_seed(seed)
    x, y = torch.rand(4, 1, 4, 4), torch.arange(4) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    threat = Threat(norm, eps)
    assert inside(threat, PGD(threat, steps, step_size, loss=loss)(model, x, y), x)


@quick
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6), st.data())
def test_the_margin_is_the_best_wrong_logit_minus_the_true_one(logits, data):
    y = data.draw(st.integers(0, len(logits) - 1))
    wrong = max(value for place, value in enumerate(logits) if place != y)
    expected = torch.tensor(wrong) - torch.tensor(logits[y])
    assert cw_margin(torch.tensor([logits]), torch.tensor([y])) == expected


@quick
@given(st.lists(st.tuples(st.floats(-50, 50, width=32), st.floats(-50, 50, width=32)), min_size=2, max_size=6))
def test_the_divergence_is_never_negative_and_ignores_a_common_shift(pairs):
    p, q = torch.tensor(pairs, dtype=torch.float32).T.unsqueeze(1)
    assert divergence(p, q) >= -1e-5
    assert torch.allclose(divergence(p + 3.0, q - 2.0), divergence(p, q), rtol=1e-4, atol=1e-4)
    assert divergence(p, p) == 0
