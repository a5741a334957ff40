"""Small networks that people reported for other pruning programs: weights and channels of each."""

import pytest
import torch
from channel_networks import lively, take_through
from torch import nn

from harp.pruning import LWM, attach_masks, bake_masks, freeze_masks, weight_budget

IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    """A stem, something in the middle, and a head."""

    def __init__(self, middle: nn.Module, width: int = 32):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU())
        self.middle, self.last, self.head = middle, nn.Conv2d(width, 16, 3), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.last(self.middle(self.stem(x))).relu().mean((2, 3)))


class Gate(nn.Module):
    """A map times a map of one channel, image by image: (32, h, w) * (1, h, w)."""

    def __init__(self):
        super().__init__()
        self.g = nn.Conv2d(32, 1, 1)

    def forward(self, x):
        return torch.stack([image * torch.sigmoid(self.g(image)) for image in x])


class Halves(nn.Module):
    """Channels in two parts, each of which is convolved, and put together again."""

    def __init__(self, cut):
        super().__init__()
        self.cut, self.a, self.b = cut, nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)

    def forward(self, x):
        a, b = self.cut(x)
        return torch.cat([self.a(a), self.b(b)], 1)


class Uneven(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        a, b = x.split([8, 24], 1)
        return torch.cat([self.a(a), b], 1)


class Remembered(nn.Module):
    """Two gates and a part that is convolved: the module remembers the sizes of the three."""

    def __init__(self):
        super().__init__()
        self.split_indices = (32, 24, 8)
        self.wide, self.narrow = nn.Conv2d(32, 64, 1), nn.Conv2d(32, 32, 1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x):
        gate, same, part = torch.split(self.wide(x), self.split_indices, 1)
        return self.narrow(gate.sigmoid() * torch.cat([same, self.conv(part)], 1))


class Scatter(nn.Module):
    """The upper half of a map is replaced by another."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(32, 32, 1)

    def forward(self, x):
        half = x.shape[2] // 2
        return torch.slice_scatter(x, self.a(x[:, :, :half]), 2, 0, half)


class Generator(nn.Module):
    """A linear layer whose output is seen as a map, and a transposed convolution that enlarges it."""

    def __init__(self, view: nn.Module):
        super().__init__()
        self.stem, self.line, self.view = nn.Conv2d(3, 8, 3, 4), nn.Linear(8, 24 * 9), view
        self.up, self.head = nn.ConvTranspose2d(24, 12, 2, 2), nn.Conv2d(12, 5, 1)

    def forward(self, x):
        return self.head(self.up(self.view(self.line(self.stem(x).relu().mean((2, 3)))).relu())).mean((2, 3))


class View(nn.Module):
    def __init__(self, *size: int):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x.view(len(x), *self.size)


NETWORKS = {
    "a map gated by a map of one channel": lambda: Base(Gate()),
    "circular padding": lambda: Base(nn.Conv2d(32, 32, 3, padding=1, padding_mode="circular")),
    "reflected padding": lambda: Base(nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect")),
    "chunks": lambda: Base(Halves(lambda x: x.chunk(2, 1))),
    "a split into equal parts": lambda: Base(Halves(lambda x: x.split(x.shape[1] // 2, 1))),
    "a split with sizes in the code": lambda: Base(Halves(lambda x: x.split(16, 1))),
    "a split into unequal parts": lambda: Base(Uneven()),
    "a split with sizes that the module remembers": lambda: Base(Remembered()),
    "a batch norm without running statistics": lambda: Base(nn.BatchNorm2d(32, track_running_stats=False)),
    "slice_scatter": lambda: Base(Scatter()),
    "a view, its size open": lambda: Generator(View(-1, 3, 3)),
    "a view, its size in the code": lambda: Generator(View(24, 3, 3)),
    "Unflatten": lambda: Generator(nn.Unflatten(1, (24, 3, 3))),
}
HELD = {
    "a split with sizes in the code": "stem.0",
    "a split into unequal parts": "stem.0",
    "a view, its size in the code": "line",
}
"""What has to stay: a size that nothing can change counts its channels."""


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return lively(NETWORKS[name]())


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_go_and_the_outputs_stay(name):
    model = network(name)
    taken = take_through(model, IMAGES, 0.8 if name in HELD else 0.4)
    assert taken.difference <= 1e-5
    assert HELD.get(name) not in taken.counts
    if name == "a split with sizes that the module remembers":
        assert {"middle.wide", "middle.wide#2"} <= set(taken.counts)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_go_and_the_network_is_plain_again(name):
    model = network(name)
    budget = weight_budget(model, keep=0.1)
    freeze_masks(attach_masks(model, budget, LWM))
    masked = model(IMAGES)
    bake_masks(model)
    assert torch.equal(model(IMAGES), masked)
    parameters = dict(model.named_parameters())
    assert sum(int(parameters[site].count_nonzero()) for site in budget.sites) == budget.limit
