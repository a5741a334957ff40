"""Multiply-accumulates of two networks counted by hand, and what a budget on channels makes of a network of three layers."""

import pytest
import torch
from torch import nn

from harp.dry_run.stages import macs_and_activations
from harp.models import build_model
from harp.pruning import HYDRA, attach_masks, channel_budget, freeze_masks, macs, masks

IMAGE = torch.zeros(1, 3, 32, 32)


def test_vgg16_has_314_million():
    """Σ side² · 9 · in · out over the convolutions, and three linear layers."""
    by_hand = (
        32**2 * 9 * (3 * 64 + 64 * 64)
        + 16**2 * 9 * (64 * 128 + 128 * 128)
        + 8**2 * 9 * (128 * 256 + 256 * 256 + 256 * 256)
        + 4**2 * 9 * (256 * 512 + 512 * 512 + 512 * 512)
        + 2**2 * 9 * (512 * 512 + 512 * 512 + 512 * 512)
        + (2048 * 256 + 256 * 256 + 256 * 10)
    )
    assert by_hand == 313_788_928
    assert macs(build_model("vgg16_bn", shape=(3, 32, 32), classes=10), IMAGE) == by_hand


def test_resnet18_has_555_million():
    """A stem, four stages of two blocks of two convolutions, 1×1 shortcuts where the width doubles, one linear layer."""
    stem = 32**2 * 9 * 3 * 64
    first = 32**2 * 9 * 4 * 64 * 64
    others = sum(
        side**2 * (9 * (half * 2 * half + 3 * (2 * half) ** 2) + half * 2 * half)
        for side, half in ((16, 64), (8, 128), (4, 256))
    )
    by_hand = stem + first + others + 512 * 10
    assert by_hand == 555_422_720
    model = build_model("resnet18", shape=(3, 32, 32), classes=10)
    assert macs(model, IMAGE) == by_hand
    budget = channel_budget(model, IMAGE, keep=0.5)
    assert (budget.total, budget.limit) == (by_hand, by_hand // 2)


class Sequence(nn.Module):
    """A layer for sequences, on images read as sequences of five."""

    def __init__(self, layer: nn.Module, width: int):
        super().__init__()
        self.layer, self.width = layer, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = self.layer(x.flatten(1)[:, : 5 * self.width].reshape(len(x), 5, self.width))
        return answer[0] if isinstance(answer, tuple) else answer


@pytest.mark.parametrize(
    ("layer", "width", "by_hand"),
    [
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 16, 5 * (4 * 16 * 16 + 2 * 16 * 32)),
        (nn.LSTM(8, 16, batch_first=True), 8, 5 * 4 * 16 * (8 + 16)),
        (nn.GRU(8, 16, batch_first=True), 8, 5 * 3 * 16 * (8 + 16)),
    ],
    ids=["transformer, its linear layers", "LSTM", "GRU"],
)
def test_layers_of_one_fused_kernel_are_counted_and_stay_fused_elsewhere(layer, width, by_hand):
    model = Sequence(layer, width)
    before = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    assert macs(model, IMAGE) == macs_and_activations(model, (3, 32, 32), torch.device("cpu"))[0] == by_hand
    assert (torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()) == before


@pytest.fixture
def three_layers():
    """Linear layers 4 → 6 → 8 → 2: 24 · a + 48 · a · b + 16 · b multiplications, 88 in all."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in ((4, 6), (6, 8), (8, 2))))


def test_the_cost_of_three_layers_is_a_polynomial_of_degree_two(three_layers):
    budget = channel_budget(three_layers, torch.zeros(1, 4), keep=0.5)
    assert {term.sites: term.cost for term in budget.terms} == {("0",): 24.0, ("0", "1"): 48.0, ("1",): 16.0}
    assert float(budget.share({"0": 0.5, "1": 0.25})) == pytest.approx((12 + 6 + 4) / 88)


def test_half_of_three_layers_is_three_channels_and_six(three_layers):
    """Of n and m channels the cost is 4n + nm + 2m, and 44 may stay. Uniformly, 48a² + 40a = 44 at a = 0.6275: 3.77 of 6
    and 5.02 of 8. Rounded down they cost 37; the larger remainder's fourth channel would make it 46, the sixth 42."""
    budget = channel_budget(three_layers, torch.zeros(1, 4), keep=0.5)
    attach_masks(three_layers, budget, HYDRA)
    freeze_masks(three_layers)
    assert {name: mask.count for name, mask in masks(three_layers).items()} == {"0": 3, "1": 6}
    assert budget.spent({"0": 3, "1": 6}) == 12 + 18 + 12 <= budget.limit == 44
    assert not budget.allows({"0": 4, "1": 6})
    assert not budget.allows({"0": 3, "1": 7})


def test_of_two_measures_the_tighter_one_counts(three_layers):
    budget = channel_budget(three_layers, torch.zeros(1, 4), keep={"macs": 0.5, "parameters": 0.25})
    full = {"0": 1.0, "1": 1.0}
    assert float(budget.share(full)) == pytest.approx(0.5 / 0.25)
