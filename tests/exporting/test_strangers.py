"""Networks of other people's, in small: from a model to a file that the engine runs."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import harp

timm = pytest.importorskip("timm")


class PreActBlock(nn.Module):
    """As the robust networks of DeepMind have it: SiLU before each convolution, and padding by hand."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)])
        self.convs = nn.ModuleList([nn.Conv2d(inputs, outputs, 3, stride), nn.Conv2d(outputs, outputs, 3, padding=1)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)
        self.widths = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        active = F.silu(self.norms[0](x))
        inside = self.convs[0](F.pad(active, self.widths))
        return self.shortcut(active) + self.convs[1](F.silu(self.norms[1](inside)))


class UNet(nn.Module):
    """Down with strides, up with a transposed convolution and with interpolation, and maps from before beside both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.deep = nn.Conv2d(16, 16, 3, 2, 1)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.stem(x))
        second = F.relu(self.down(first))
        third = F.interpolate(F.relu(self.deep(second)), scale_factor=4, mode="bilinear", align_corners=False)
        return self.out(torch.cat([first, self.up(second), third], 1))


def stranger(name: str) -> tuple[nn.Module, int]:
    torch.manual_seed(0)
    if name == "unet":
        return UNet(), 16
    if name == "preact":
        blocks = [PreActBlock(8, 8, 1), PreActBlock(8, 12, 2)]
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16
    if name == "swin":
        return timm.models.swin_transformer.SwinTransformer(
            img_size=32, patch_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=5
        ), 32
    if name == "xcit":
        return timm.models.xcit.Xcit(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=5), 32
    sides = {"test_vit": 160, "test_vit_relpos": 160}
    side = sides.get(name, 64)
    return timm.create_model(name, pretrained=False, num_classes=5), side


LARGE = ["swin", "xcit", "test_vit_relpos", "convnext_atto", "ghostnet_050"]


@pytest.mark.parametrize(
    "name", ["unet", "preact", "test_vit", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_a_pruned_network_becomes_a_file_that_agrees(name: str, tmp_path: Path):
    model, side = stranger(name)
    harp.attach_masks(model, harp.weight_budget(model, keep=0.1), harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    x = torch.rand(2, 3, side, side)
    done = harp.export(model.eval(), x, tmp_path / "net.harp")
    assert done.agreement.by == "harp.runtime"
    assert done.agreement.difference < 1e-4
    assert done.kept < 0.11 * done.total
    with torch.no_grad():
        found, expected = torch.from_numpy(harp.runtime.load(tmp_path / "net.harp", threads=1)(x.numpy())), model(x)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
