"""Known networks that lost half of their multiplications say the same as before, also as ONNX files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from channel_networks import ConvNeXt, UNet, lively, take_through
from torch import nn

from harp.exporting import export
from harp.exporting.onnx import open_onnx
from harp.models import build_model

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "unet": (UNet, 32),
    "convnext": (ConvNeXt, 32),
    **{
        name: (partial(build_model, name, shape=(3, 32, 32), classes=10), 32)
        for name in ("vgg16_bn", "resnet18", "wrn28_4")
    },
    **{
        name: (partial(torchvision.models.get_model, name, num_classes=10), 64)
        for name in ("resnet50", "mobilenet_v2", "densenet121")
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_smaller_network_exports_to_onnx_with_the_same_outputs(name: str, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    x = torch.rand(2, 3, side, side)
    taken = take_through(lively(make()), x, 0.75 if name == "convnext" else 0.5)
    assert float((taken.masked - taken.shrunk).abs().max()) <= 1e-5
    export(taken.network, x, tmp_path / "net.onnx", format="onnx")
    assert float((open_onnx(tmp_path / "net.onnx")(x) - taken.shrunk).abs().max()) <= 1e-5
