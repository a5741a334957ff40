"""summary: what is kept of each layer, under masks, baked, and of channels."""

import pytest
import torch
from torch import nn

from harp.pruning import LWM, attach_masks, bake_masks, channel_budget, freeze_masks, macs, summary, weight_budget

IMAGE = torch.zeros(1, 1, 6, 6)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, groups=2)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
    )


def test_a_dense_network_has_all_its_weights_and_the_macs_that_torch_counts():
    found = summary(network(), IMAGE)
    assert [(x.name, x.shape, x.kept, x.macs) for x in found.layers] == [
        ("0.weight", (4, 1, 3, 3), 36, 36 * 16),
        ("3.weight", (8, 2, 3, 3), 144, 144),
        ("6.weight", (3, 8), 24, 24),
    ]
    assert found.macs == macs(network(), IMAGE)
    assert (found.kept, found.total, found.share) == (204, 204, 1.0)


@pytest.mark.parametrize("state", ["learning", "frozen", "baked"])
def test_pruned_weights_are_counted_in_every_state(state):
    model = network()
    attach_masks(model, weight_budget(model, keep=0.25, exclude=["6.*"]), LWM)
    for verb in ([], [freeze_masks], [freeze_masks, bake_masks])[["learning", "frozen", "baked"].index(state)]:
        verb(model)
    found = summary(model, IMAGE)
    assert [(x.kept, x.total) for x in found.layers] == [(9, 36), (36, 144), (24, 24)]
    assert found.macs == 9 * 16 + 36 + 24


def test_of_channels_a_weight_stays_when_what_it_reads_and_writes_does():
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))
    budget = channel_budget(model, torch.zeros(1, 4), keep=0.5)
    freeze_masks(attach_masks(model, budget, LWM))
    assert [(x.kept, x.macs) for x in summary(model, torch.zeros(1, 4)).layers] == [(20, 20), (10, 10)]


def test_it_prints_as_a_table():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[2].weight[0] = 0
    assert str(summary(model, torch.zeros(1, 1, 1, 1))).splitlines() == [
        "layer               shape  kept    share  MACs",
        "0.weight    2 x 1 x 1 x 1     2  100.00%     2",
        "2.weight            2 x 2     2   50.00%     2",
        "all layers                    4   66.67%     4",
    ]
    assert str(summary(model)).endswith("–")


def test_a_transposed_convolution_counts_the_positions_of_its_input():
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False))
    assert summary(model, torch.zeros(1, 2, 5, 5)).macs == 2 * 3 * 4 * 25
