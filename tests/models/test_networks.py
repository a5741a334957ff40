"""Sizes worked out by hand, and what every network does."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harp.models import MODELS, build_model
from harp.models.resnet import BasicBlock
from harp.models.wide_resnet import PreActivationBlock

ANCHOR = Path(__file__).parents[2].parent / "shared" / "anchor"


def prunable(model: nn.Module) -> int:
    """The weights of convolutions and linear layers."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.rand(1, *shape))
    return counter.get_total_flops() // 2


def test_vgg16_bn_has_the_weights_of_hydra_and_harp():
    convolutions = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    convolutions += [(256, 512)] + [(512, 512)] * 5
    linear = 512 * 2 * 2 * 256 + 256 * 256 + 256 * 10
    expected = sum(9 * a * b for a, b in convolutions) + linear
    assert expected == 14_710_464 + 592_384
    model = build_model("vgg16_bn", shape=(3, 32, 32), classes=10)
    assert prunable(model) == expected
    names = set(model.state_dict())
    assert {"features.0.weight", "features.1.running_mean", "features.40.weight", "classifier.4.bias"} <= names
    assert "features.0.bias" not in names


def test_vgg16_bn_linear_has_the_parameters_of_kuangliu():
    model = build_model("vgg16_bn_linear", shape=(3, 32, 32), classes=10)
    # 14,710,464 weights; a bias, and a batch norm's two, for each of 4,224 channels; the linear layer.
    assert sum(p.numel() for p in model.parameters()) == 14_710_464 + 3 * 4_224 + 5_130 == 14_728_266
    assert {"features.0.bias", "features.41.weight", "classifier.weight"} <= set(model.state_dict())


def test_resnet18_has_the_parameters_of_the_cifar_resnet():
    stem = 9 * 3 * 64
    layer1 = 4 * 9 * 64 * 64
    later = sum(9 * a * 2 * a + 3 * 9 * (2 * a) ** 2 + a * 2 * a for a in (64, 128, 256))
    model = build_model("resnet18", shape=(3, 32, 32), classes=10)
    assert prunable(model) == stem + layer1 + later + 5_120 == 11_164_352
    # With 4,800 batch-normed channels and 10 biases: the well-known 11,173,962.
    assert sum(p.numel() for p in model.parameters()) == 11_164_352 + 2 * 4_800 + 10 == 11_173_962
    assert {"layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"} <= set(model.state_dict())


def test_wrn28_4_has_the_weights_of_its_formula():
    stages = [(16, 64), (64, 128), (128, 256)]
    blocks = sum(9 * a * b + 7 * 9 * b * b + a * b for a, b in stages)
    model = build_model("wrn28_4", shape=(3, 32, 32), classes=10)
    assert prunable(model) == 9 * 3 * 16 + blocks + 256 * 10 == 5_841_840
    wanted = {"conv1.weight", "block1.layer.0.convShortcut.weight", "block3.layer.3.bn2.bias", "bn1.weight", "fc.bias"}
    assert wanted <= set(model.state_dict())


def test_resnet50_is_torchvisions():
    model = build_model("resnet50", shape=(3, 224, 224), classes=1000)
    theirs = build_model("torchvision:resnet50", shape=(3, 224, 224), classes=1000)
    assert model.state_dict().keys() == theirs.state_dict().keys()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032


@pytest.mark.parametrize(
    ("name", "shape", "weights", "multiplications"),
    [
        (
            "vgg_tiny",
            (3, 16, 16),
            9 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 64) + 256 * 64 + 640,
            9 * (3 * 16 * 256 + 16 * 32 * 64 + (32 * 64 + 64 * 64) * 16) + 256 * 64 + 640,
        ),
        (
            "vgg_small",
            (1, 8, 8),
            9 * (1 * 16 + 16 * 32 + 32 * 64) + 256 * 320 + 3200,
            9 * (1 * 16 * 64 + 16 * 32 * 16 + 32 * 64 * 4) + 256 * 320 + 3200,
        ),
        (
            "resnet_small",
            (1, 14, 14),
            9 * (1 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 16 * 32 + 32 * 64 + 640,
            9 * ((1 * 16 + 2 * 16 * 16) * 196 + (16 * 32 + 32 * 32) * 49 + (32 * 64 + 64 * 64) * 16)
            + (16 * 32 * 49 + 32 * 64 * 16 + 640),
        ),
        (
            "vgg_medium",
            (3, 32, 32),
            9 * (3 * 16 + 16 * 48 + 48 * 96 + 96 * 160 + 160 * 160) + 640 * 128 + 1280,
            9 * (3 * 16 * 1024 + 16 * 48 * 256 + 48 * 96 * 64 + (96 * 160 + 160 * 160) * 16) + 640 * 128 + 1280,
        ),
    ],
)
def test_small_networks_have_the_size_of_their_docstring(name, shape, weights, multiplications):
    model = build_model(name, shape=shape, classes=10)
    assert prunable(model) == weights
    assert macs(model, shape) == multiplications
    documented = MODELS[name].__doc__ or ""
    assert f"{weights:,} weights" in documented
    assert f"{multiplications / 1e6:.1f} million" in documented


@pytest.mark.parametrize("name", ["vgg_small", "resnet_small", "vgg_tiny"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 14, 14), (1, 28, 28), (3, 16, 16), (3, 32, 32)], ids=str)
def test_small_networks_take_digits_as_well_as_photographs(name, shape):
    assert build_model(name, shape=shape, classes=7)(torch.rand(2, *shape)).shape == (2, 7)


def test_vgg_tiny_loads_the_reference_parents_to_the_letter():
    paths = sorted(ANCHOR.glob("pretrained_s*.safetensors"))
    if not paths:
        pytest.skip("the anchor's files are not beside the project")
    for path in paths:
        state = load_file(path)
        model = build_model("vgg_tiny", shape=(3, 16, 16), classes=10)
        model.load_state_dict(state, strict=True)
        assert prunable(model) == 77_360


@pytest.mark.parametrize("name", MODELS)
def test_an_image_that_would_be_pooled_away_is_refused(name):
    with pytest.raises(ValueError, match=r"shape=\(3, 1, 64\).*--task.image-size"):
        build_model(name, shape=(3, 1, 64), classes=10)


@pytest.mark.parametrize("name", MODELS)
def test_one_class_is_refused(name):
    with pytest.raises(ValueError, match="classes=1"):
        build_model(name, shape=(3, 32, 32), classes=1)


@pytest.mark.parametrize(("inputs", "stride"), [(4, 1), (4, 2), (8, 1)])
def test_a_basic_block_computes_what_torchvisions_does(inputs, stride):
    ours = BasicBlock(inputs, 8, stride)
    changes = stride != 1 or inputs != 8
    shortcut = nn.Sequential(nn.Conv2d(inputs, 8, 1, stride, bias=False), nn.BatchNorm2d(8)) if changes else None
    theirs = torchvision.models.resnet.BasicBlock(inputs, 8, stride, shortcut)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(3, inputs, 6, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_wide_blocks_shortcut_reads_the_activated_input_where_it_widens_and_the_bare_one_where_it_does_not():
    x = torch.randn(3, 4, 6, 6)
    for block in (PreActivationBlock(4, 8, 2), PreActivationBlock(4, 4, 1)):
        nn.init.zeros_(block.conv2.weight)
        expected = x if block.convShortcut is None else block.convShortcut(torch.relu(block.bn1(x)))
        torch.testing.assert_close(block(x), expected)


def test_a_wide_block_activates_before_every_convolution():
    block = PreActivationBlock(4, 4, 1).eval()
    x = torch.randn(2, 4, 6, 6)
    residual = block.conv2(torch.relu(block.bn2(block.conv1(torch.relu(block.bn1(x))))))
    torch.testing.assert_close(block(x), x + residual)


@pytest.mark.parametrize("name", ["vgg_small", "resnet_small"])
def test_a_fresh_network_has_logits_of_order_one_and_gradients_everywhere(name):
    torch.manual_seed(0)
    model = build_model(name, shape=(1, 8, 8), classes=10)
    logits = model(torch.rand(32, 1, 8, 8))
    assert 0.05 < logits.std() < 5
    nn.functional.cross_entropy(logits, torch.arange(32) % 10).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
