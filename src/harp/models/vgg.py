"""VGG with batch normalisation (Simonyan and Zisserman, ICLR 2015), as it is used on small images.

There is no one VGG16-BN for CIFAR. Two are common in public checkpoints, and both number their layers `features.N`:

- `vgg16_bn`: no biases in the convolutions, four poolings, three linear layers `classifier.{0,2,4}` (2048-256-256). The
  network of HYDRA (Sehwag et al., 2020) and HARP, and of the robust checkpoints published with them: ours too.
- `vgg16_bn_linear`: biases, five poolings, a single linear layer `classifier` (512). The one of the kuangliu/
  pytorch-cifar repository and its many descendants.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from harp.models.shape import Shape, check_shape

_VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


class VGG(nn.Module):
    """3×3 convolutions of the widths in `plan`, each with batch norm and ReLU ("M" is a 2×2 max-pooling), an average
    over `pool` × `pool` cells, and linear layers: the widths in `hidden`, then the classes."""

    def __init__(
        self,
        shape: Shape,
        classes: int,
        *,
        plan: Sequence[int | Literal["M"]],
        hidden: Sequence[int] = (),
        pool: int = 2,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_shape(shape, classes, smallest=2 ** plan.count("M"))
        self.normalize: nn.Module = nn.Identity()
        self.features = _features(shape[0], plan, bias)
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        width = [size for size in plan if size != "M"][-1] * pool**2
        self.classifier = _classifier((width, *hidden, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        x = self.features(self.normalize(x))
        return self.classifier(self.avgpool(x).flatten(1))


def vgg16_bn(shape: Shape, classes: int) -> VGG:
    """The VGG16-BN of HYDRA and HARP: 15.3 million weights."""
    return VGG(shape, classes, plan=_VGG16, hidden=(256, 256))


def vgg16_bn_linear(shape: Shape, classes: int) -> VGG:
    """The VGG16-BN with one linear layer: 14.7 million weights."""
    return VGG(shape, classes, plan=(*_VGG16, "M"), pool=1, bias=True)


def _features(channels: int, plan: Sequence[int | Literal["M"]], bias: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in plan:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
    return nn.Sequential(*layers)


def _classifier(widths: Sequence[int]) -> nn.Module:
    """Linear layers with ReLUs between: a lone one is not wrapped, public checkpoints call it `classifier.weight`."""
    if len(widths) == 2:
        return nn.Linear(widths[0], widths[1])
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
