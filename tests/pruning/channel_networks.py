"""Networks for the tests of channel pruning: small ones of every kind, and random graphs."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harp.pruning import HYDRA, Budget, Method, attach_masks, bake_masks, channel_budget, freeze_masks, masks, shrink


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms as training leaves them, in eval mode: a masked channel is not zero behind one."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.track_running_stats:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
            if module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, 0, 0.5, generator=generator)
    return model.eval()


@dataclass(frozen=True)
class Taken:
    """What came of taking a network through masks and out of them."""

    masked: Tensor
    shrunk: Tensor
    network: nn.Module
    budget: Budget
    counts: dict[str, int]

    @property
    def difference(self) -> float:
        return float((self.masked - self.shrunk).abs().max() / self.masked.abs().max().clamp_min(1))


@torch.no_grad()
def take_through(model: nn.Module, x: Tensor, keep: float, method: Method = HYDRA, **settings) -> Taken:
    """Mask by the method, freeze, bake, shrink; the outputs with masks and without the channels."""
    budget = channel_budget(model, x, keep=keep, **settings)
    attach_masks(model, budget, method)
    freeze_masks(model)
    counts = {name: mask.count for name, mask in masks(model).items()}
    masked = model(x)
    shrink(bake_masks(model), x, exclude=settings.get("exclude", ()))
    return Taken(masked, model(x), model, budget, counts)


class UNet(nn.Module):
    """Two levels down and up again, joined by concatenation, with transposed convolutions and instance norms."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.InstanceNorm2d(16), nn.ReLU())
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.join = nn.Sequential(nn.Conv2d(32, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU())
        self.last_up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.out = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        down = self.down(first)
        joined = self.join(torch.cat([self.up(self.bottom(down)), down], 1))
        return self.out(torch.cat([self.last_up(joined), first], 1))


class ConvNeXtBlock(nn.Module):
    """Depth-wise convolution, a norm over channels that come last, two linear layers, a scale, and the input again."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(nn.functional.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, stride=4)
        self.blocks = nn.Sequential(ConvNeXtBlock(12), ConvNeXtBlock(12))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Graph(nn.Module):
    """A network from a program: each step makes a node from earlier ones."""

    def __init__(self, program: list[tuple]):
        super().__init__()
        self.program = program
        self.layers = nn.ModuleDict()
        widths, sides = [3], [8]
        for number, (kind, *given) in enumerate(program):
            name, a = str(number), given[0]
            if kind == "conv":
                _, out, kernel, stride, groups = given
                self.layers[name] = nn.Conv2d(widths[a], out, kernel, stride, kernel // 2, groups=groups)
                widths.append(out)
                sides.append((sides[a] + stride - 1) // stride)
                continue
            if kind == "bn":
                self.layers[name] = nn.BatchNorm2d(widths[a])
            elif kind == "depthwise":
                self.layers[name] = nn.Conv2d(widths[a], widths[a] * given[1], 3, padding=1, groups=widths[a])
            sides.append(sides[a])
            widths.append(
                widths[a] * given[1]
                if kind == "depthwise"
                else widths[a] + widths[given[1]]
                if kind == "cat"
                else widths[a]
            )
        self.flat = program[-1][0] == "relu"
        self.head = nn.Linear(widths[-1] * (sides[-1] ** 2 if self.flat else 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for number, (kind, a, *given) in enumerate(self.program):
            layer = dict(self.layers.items()).get(str(number))
            if layer is not None:
                nodes.append(layer(nodes[a]))
            elif kind == "relu":
                nodes.append(torch.relu(nodes[a]))
            elif kind == "add":
                nodes.append(nodes[a] + nodes[given[0]])
            else:
                nodes.append(torch.cat([nodes[a], nodes[given[0]]], 1))
        return self.head(nodes[-1].flatten(1) if self.flat else nodes[-1].mean((2, 3)))


def program_from(draw, st) -> list[tuple]:
    """A random program: hypothesis chooses the steps."""
    shapes = [(3, 8)]
    program: list[tuple] = []

    def step(made: tuple, shape: tuple[int, int]) -> None:
        program.append(made)
        shapes.append(shape)

    step(("conv", 0, draw(st.sampled_from([4, 6, 8])), 3, 1, 1), (0, 8))
    shapes[-1] = (program[-1][2], 8)
    for _ in range(draw(st.integers(2, 9))):
        a = draw(st.integers(1, len(shapes) - 1))
        width, side = shapes[a]
        alike = [n for n in range(1, len(shapes)) if shapes[n] == shapes[a]]
        beside = [n for n in range(1, len(shapes)) if shapes[n][1] == side and shapes[n][0] + width <= 24]
        kind = draw(st.sampled_from(["conv", "conv", "bn", "relu", "add", "cat", "depthwise", "grouped"]))
        if kind == "add":
            step(("add", a, draw(st.sampled_from(alike))), (width, side))
        elif kind == "cat" and beside:
            b = draw(st.sampled_from(beside))
            step(("cat", a, b), (width + shapes[b][0], side))
        elif kind == "depthwise" and width <= 12:
            times = draw(st.sampled_from([1, 2]))
            step(("depthwise", a, times), (width * times, side))
        elif kind in ("bn", "relu"):
            step((kind, a), (width, side))
        else:
            out, stride = draw(st.sampled_from([4, 6, 8])), draw(st.sampled_from([1, 1, 2]))
            groups = 2 if kind == "grouped" and width % 2 == 0 else 1
            step(("conv", a, out, draw(st.sampled_from([1, 3])), stride, groups), (out, (side + stride - 1) // stride))
    return program
