"""Wide ResNets (Zagoruyko and Komodakis, BMVC 2016).

State-dict names are those of the TRADES code (Zhang et al., 2019), which HYDRA, HARP and most robust checkpoints
share: `conv1`, `block1.layer.0.conv1`, `block1.layer.0.convShortcut`, `bn1`, `fc`.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harp.models.shape import Shape, check_shape


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3×3 convolutions. Where the width changes, a 1×1 convolution of the
    activated input is the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d k l"]:
        activated = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


class Group(nn.Module):
    """`blocks` blocks of one width, the first with a stride."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d k l"]:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-`depth`-`widen` with three stages of (depth - 4) / 6 blocks, `widen` times as wide as the plain network."""

    def __init__(self, shape: Shape, classes: int, *, depth: int, widen: int) -> None:
        super().__init__()
        check_shape(shape, classes, smallest=4)
        blocks, rest = divmod(depth - 4, 6)
        assert rest == 0, f"depth {depth} is not 6n + 4"
        widths = (16, 16 * widen, 32 * widen, 64 * widen)
        self.normalize: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        self.block1 = Group(blocks, widths[0], widths[1], stride=1)
        self.block2 = Group(blocks, widths[1], widths[2], stride=2)
        self.block3 = Group(blocks, widths[2], widths[3], stride=2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        x = self.conv1(self.normalize(x))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


def wrn28_4(shape: Shape, classes: int) -> WideResNet:
    """WRN-28-4: 5.8 million weights."""
    return WideResNet(shape, classes, depth=28, widen=4)
