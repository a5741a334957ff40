"""Where importance starts."""

import pytest
import torch
from torch import nn

from harp.pruning.mask import top
from harp.pruning.scores import magnitude, random, scaled_magnitude


def test_magnitude_is_the_absolute_weight():
    assert magnitude(torch.tensor([[-2.0, 1.0]])).tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Linear(7, 3), 7),
        (nn.Conv2d(4, 5, 3), 36),
        (nn.Conv2d(4, 8, 3, groups=4), 9),
        (nn.Conv1d(2, 3, 5), 10),
        (nn.Conv3d(2, 3, 2), 16),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_scaled_magnitude_spans_the_range_of_a_fresh_layer(layer, fan_in):
    """S = θ · sqrt(6 / fan_in) / max|θ|: the largest |S| is sqrt(6 / fan_in), signs and proportions stay."""
    weight = layer.weight.detach()
    scores = scaled_magnitude(weight)
    assert scores.abs().max().item() == pytest.approx((6 / fan_in) ** 0.5, rel=1e-5)
    assert torch.allclose(scores / scores.abs().max(), weight / weight.abs().max(), atol=1e-6)


def test_scaled_magnitude_keeps_the_order_of_magnitude():
    weight = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(top(scaled_magnitude(weight), 30), top(magnitude(weight), 30))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_weights_give_zero_scores_and_no_nan(dtype):
    assert scaled_magnitude(torch.zeros(3, 4, dtype=dtype)).tolist() == [[0.0] * 4] * 3
    mixed = scaled_magnitude(torch.tensor([[0.0, 1e-7, -2.0]], dtype=dtype))
    assert mixed.isfinite().all()
    assert mixed[0, 0] == 0


def test_random_scores_follow_the_seed_and_ignore_the_weight():
    torch.manual_seed(3)
    first = random(torch.zeros(50))
    torch.manual_seed(3)
    assert torch.equal(first, random(torch.ones(50)))
    assert first.unique().numel() == 50


def test_channel_scores_keep_channels_apart_fault_8_of_the_published_code():
    """Fault 8: channel scores came from a reshape that mixed channels. Here a channel's score sees its channel alone."""
    weight = torch.zeros(2, 3, 2, 2)
    weight[:, 1] = 5.0
    scores = magnitude(weight).sum((0, 2, 3), keepdim=True)
    assert scores.flatten().tolist() == [0.0, 40.0, 0.0]
    assert top(scores, 1).flatten().tolist() == [False, True, False]
