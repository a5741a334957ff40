"""Networks for a CPU. MACs (multiply-accumulates of one image) count convolutions and linear layers."""

from harp.models.resnet import ResNet
from harp.models.shape import Shape
from harp.models.vgg import VGG


def vgg_tiny(shape: Shape, classes: int) -> VGG:
    """Four convolutions, 77,360 weights and 1.3 million MACs at 16 × 16 × 3."""
    return VGG(shape, classes, plan=(16, "M", 32, "M", 64, 64, "M"), hidden=(64,))


def vgg_small(shape: Shape, classes: int) -> VGG:
    """Three convolutions, 108,304 weights and 0.2 million MACs at 8 × 8 × 1 (digits)."""
    return VGG(shape, classes, plan=(16, "M", 32, "M", 64), hidden=(320,))


def vgg_medium(shape: Shape, classes: int) -> VGG:
    """Five convolutions, 500,656 weights and 10.8 million MACs at 32 × 32 × 3 (CIFAR-10)."""
    return VGG(shape, classes, plan=(16, "M", 48, "M", 96, "M", 160, 160, "M"), hidden=(128,))


def resnet_small(shape: Shape, classes: int) -> ResNet:
    """Three basic blocks, two of them with a 1×1 shortcut (the ResNet-8 of MLPerf Tiny): 77,072 weights and 2.6 million
    MACs at 14 × 14 × 1."""
    return ResNet(shape, classes, widths=(16, 32, 64), blocks=1)
