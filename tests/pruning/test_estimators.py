"""What a layer would gain from keeping more, from the gradient of its mask."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from harp.pruning import HARP, attach_masks, hold_masks, masks, weight_budget
from harp.pruning.estimators import layer_sum, marginal
from harp.pruning.mask import top

SCORES = torch.tensor([[9.0, -8.0, 7.0, 6.0], [-5.0, 4.0, 3.0, 2.0], [1.0, 0.9, 0.8, 0.7]])
GRADIENT = torch.tensor([[100.0, 100.0, -1.0, -2.0], [-3.0, 10.0, 0.0, 0.0], [0.0, 0.0, 7.0, 7.0]])


def test_the_papers_estimator_is_the_sum_over_every_entry():
    assert layer_sum(GRADIENT, SCORES, top(SCORES, 2)).item() == 218.0


def test_the_marginal_one_is_n_times_the_mean_over_the_entries_next_in_line():
    """2 of 12 are kept, so ranks 3 to 12 (2 · 2 + 8) are next: gradients −1 −2 −3 + 10 + 0·4 + 7 + 7 = 18, mean 1.8."""
    assert marginal(GRADIENT, SCORES, top(SCORES, 2)).item() == torch.tensor(12 * 1.8).item()


def test_entries_far_below_the_threshold_do_not_count():
    scores = torch.arange(100, 0, -1.0)
    gradient = torch.zeros(100)
    gradient[:10], gradient[28:] = 50.0, -50.0  # the kept ones, and those beyond rank 2 · 10 + 8
    gradient[10:28] = -1.0
    assert marginal(gradient, scores, top(scores, 10)).item() == -100.0


def test_a_layer_that_keeps_everything_has_nothing_to_gain():
    assert marginal(GRADIENT, SCORES, torch.ones_like(SCORES, dtype=torch.bool)).item() == 0.0


@given(st.floats(0.1, 10), st.integers(1, 12))
def test_scaling_what_is_kept_gains_nothing(size, kept):
    """The gradient of the kept entries alone, as scaling a last layer without batch norm has it."""
    mask = top(SCORES, kept)
    assert marginal(size * mask, SCORES, mask).item() == 0.0
    assert layer_sum(size * mask, SCORES, mask).item() > 0.0


def test_a_model_learns_with_the_estimator_of_its_method():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=False))
    attach_masks(model, weight_budget(model, keep=0.5), HARP)
    (mask,) = masks(model).values()
    x = torch.rand(3, 6)
    with hold_masks(model):
        held = mask.current()
        model(x).square().sum().backward()
    weight = model[0].parametrizations.weight.original
    grad_mask = 2 * (x @ (weight * held).T).T @ x * weight
    slope = (1 - mask.keep_min) * torch.sigmoid(mask.logit) * torch.sigmoid(-mask.logit)
    expected = marginal(grad_mask, mask.scores, held) * slope
    assert torch.allclose(mask.logit.grad, expected, rtol=1e-4)
