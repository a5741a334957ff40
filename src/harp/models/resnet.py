"""ResNets (He et al., CVPR 2016): for small images with a 3×3 stem, and torchvision's ResNet-50 for photographs.

State-dict names are torchvision's: `conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`, `fc`. Checkpoints of
kuangliu's ResNets say `shortcut` and `linear`: `harp.models.match_names` reads them.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from harp.models.shape import Shape, check_shape


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: the identity, or a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d k l"]:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet(nn.Module):
    """A 3×3 stem, stages of `blocks` basic blocks with the given `widths` (each after the first halves the image),
    the mean over the image, and a linear layer."""

    def __init__(self, shape: Shape, classes: int, *, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        check_shape(shape, classes, smallest=2 ** (len(widths) - 1))
        self.normalize: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        self.stages = tuple(f"layer{number}" for number in range(1, len(widths) + 1))
        for stage, width in zip(self.stages, widths, strict=True):
            first = BasicBlock(inputs, width, stride=1 if stage == "layer1" else 2)
            self.add_module(stage, nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1))))
            inputs = width
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        x = F.relu(self.bn1(self.conv1(self.normalize(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(x.mean((2, 3)))


class ResNet50(TorchvisionResNet):
    """torchvision's ResNet-50 with its names, behind our `normalize`."""

    def __init__(self, shape: Shape, classes: int) -> None:
        check_shape(shape, classes, smallest=32)
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=classes)
        self.normalize: nn.Module = nn.Identity()
        if shape[0] != 3:
            self.conv1 = nn.Conv2d(shape[0], 64, 7, 2, padding=3, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        return super().forward(self.normalize(x))


def resnet18(shape: Shape, classes: int) -> ResNet:
    """ResNet-18 with the CIFAR stem: 11.2 million weights."""
    return ResNet(shape, classes, widths=(64, 128, 256, 512), blocks=2)


def resnet50(shape: Shape, classes: int) -> ResNet50:
    """ResNet-50 for photographs of about 224 pixels: 25.5 million weights for 1,000 classes."""
    return ResNet50(shape, classes)
