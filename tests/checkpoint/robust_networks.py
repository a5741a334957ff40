"""The networks of the DeepMind family as robust checkpoints are published for: padded by hand, normalised inside."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def same_padding(x: Tensor, stride: int) -> Tensor:
    """Of a 3×3 convolution, as TensorFlow has it: on one side alone where every second place is taken."""
    return pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


class WideBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        self.stride = stride
        self.batchnorm_0, self.relu_0 = nn.BatchNorm2d(inputs), activation()
        self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1, self.relu_1 = nn.BatchNorm2d(outputs), activation()
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu_0(self.batchnorm_0(x))
        y = self.conv_1(self.relu_1(self.batchnorm_1(self.conv_0(same_padding(first, self.stride)))))
        return y + (x if self.shortcut is None else self.shortcut(first))


class WideStage(nn.Module):
    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        made = [WideBlock(outputs if n else inputs, outputs, 1 if n else stride, activation) for n in range(blocks)]
        self.block = nn.Sequential(*made)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class PreActBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        self.stride = stride
        self.batchnorm_0, self.relu_0 = nn.BatchNorm2d(inputs), activation()
        self.conv_2d_1 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1, self.relu_1 = nn.BatchNorm2d(outputs), activation()
        self.conv_2d_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 3, stride, bias=False) if stride > 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_2d_1(same_padding(self.relu_0(self.batchnorm_0(x)), self.stride))
        y = self.conv_2d_2(self.relu_1(self.batchnorm_1(y)))
        return y + (x if self.shortcut is None else self.shortcut(same_padding(x, self.stride)))


class Inside(nn.Module):
    """What both have in common: mean and std as buffers of the network itself."""

    mean: Tensor
    std: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))


class WideResNet(Inside):
    def __init__(self, depth: int = 28, width: int = 10, classes: int = 10, activation: type[nn.Module] = nn.SiLU):
        super().__init__()
        widths, blocks = [16, 16 * width, 32 * width, 64 * width], (depth - 4) // 6
        self.init_conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        stages = zip(widths, widths[1:], (1, 2, 2), strict=False)
        self.layer = nn.Sequential(*(WideStage(blocks, a, b, stride, activation) for a, b, stride in stages))
        self.batchnorm, self.relu = nn.BatchNorm2d(widths[3]), activation()
        self.logits = nn.Linear(widths[3], classes)
        self.num_channels = widths[3]

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.batchnorm(self.layer(self.init_conv((x - self.mean) / self.std))))
        return self.logits(nn.functional.avg_pool2d(y, 8).view(-1, self.num_channels))


class PreActResNet18(Inside):
    def __init__(self, classes: int = 10, activation: type[nn.Module] = nn.SiLU):
        super().__init__()
        self.conv_2d = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        for number, (a, b) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)]):
            blocks = PreActBlock(a, b, 2 if number else 1, activation), PreActBlock(b, b, 1, activation)
            self.add_module(f"layer_{number}", nn.Sequential(*blocks))
        self.batchnorm, self.relu, self.logits = nn.BatchNorm2d(512), activation(), nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_2d((x - self.mean) / self.std)
        for number in range(4):
            y = self.get_submodule(f"layer_{number}")(y)
        y = nn.functional.avg_pool2d(self.relu(self.batchnorm(y)), 4)
        return self.logits(y.view(y.size(0), -1))
