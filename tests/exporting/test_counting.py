"""What an export says of its weights is what the file computes with, whatever the model computes its own from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import harp
from harp.exporting.baking import baked
from harp.runtime.format import read

EXAMPLE = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 64, 5)),
    ).eval()


def pruned_by_torch() -> nn.Module:
    model = network()
    for layer in (model[0], model[3], model[6]):
        prune.l1_unstructured(layer, "weight", amount=0.75)
    return model


def weights_in(path: Path) -> list[np.ndarray]:
    return [node.tensors["weight"] for node in read(path)[0].nodes if "weight" in node.tensors]


def onnx_sizes(path: Path) -> list[int]:
    import onnx

    return [int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer]


def test_weights_pruned_by_torch_are_counted_and_the_model_stays_as_it_is(tmp_path):
    model = pruned_by_torch()
    expected, hooks = model(EXAMPLE), len(model[0]._forward_pre_hooks)
    done = harp.export(model, EXAMPLE, tmp_path / "net.harp")
    sizes = [432, 4608, 10240]
    assert (done.kept, done.total) == (sum(sizes) // 4, sum(sizes))
    assert read(done.path)[1] == {"kept": done.kept, "total": done.total}
    assert done.kept == sum(int(np.count_nonzero(weight)) for weight in weights_in(done.path))
    assert done.dense_bytes == 4 * sum(p.numel() for p in network().parameters())
    assert prune.is_pruned(model)
    assert len(model[0]._forward_pre_hooks) == hooks
    assert torch.equal(model(EXAMPLE), expected)


def test_onnx_ships_no_masks(tmp_path):
    done = harp.export(pruned_by_torch(), EXAMPLE, tmp_path / "net.onnx", format="onnx")
    assert (done.kept, done.total) == (15280 // 4, 15280)
    sizes = onnx_sizes(done.path)
    assert sorted(size for size in sizes if size > 400) == [432, 4608, 10240]
    assert done.size_bytes < 1.2 * done.dense_bytes


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "norm", [weight_norm, parametrizations.weight_norm, spectral_norm, parametrizations.spectral_norm]
)
def test_a_baked_copy_computes_the_same_with_plain_parameters(norm):
    model = network()
    norm(model[3])
    for p in model.parameters():
        assert p.is_leaf
    model.train()(EXAMPLE)
    expected, names = model.eval()(EXAMPLE), sorted(dict(network().named_parameters()))
    plain = baked(model)
    assert sorted(dict(plain.named_parameters())) == names
    torch.testing.assert_close(plain(EXAMPLE), expected)
    assert type(plain[3]) is nn.Conv2d
    assert "3.weight" not in dict(model.named_parameters())
    assert torch.equal(model(EXAMPLE), expected)


def test_a_plain_model_is_not_copied():
    model = network()
    assert baked(model) is model


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.norms[0](self.one(self.stem(x).relu())).relu()
        return self.head(self.norms[1](self.two(self.one(x).relu())).mean((2, 3)))


@pytest.mark.parametrize("format", ["harp", "onnx"])
def test_weights_that_modules_or_calls_share_count_once(format, tmp_path):
    done = harp.export(Tied().eval(), EXAMPLE, tmp_path / f"net.{format}", format=format)
    assert done.kept == done.total == 4 * 27 + 4 * 36 + 20


@pytest.mark.parametrize("format", ["harp", "onnx"])
def test_weights_that_inference_never_uses_are_not_counted(format, tmp_path):
    model = network()
    model.aux = nn.Linear(7, 7)
    model.forward = lambda x: nn.Sequential(*list(model)[:7])(x)
    done = harp.export(model, EXAMPLE, tmp_path / f"net.{format}", format=format)
    assert done.total == 15280


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


@pytest.mark.parametrize("format", ["harp", "onnx"])
def test_a_pruned_weight_that_the_forward_pass_fills_again_is_refused(format, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(Standardised(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 5)).eval()
    dense = harp.export(model, EXAMPLE, tmp_path / f"dense.{format}", format=format)
    assert dense.kept == dense.total == 216 + 4000
    harp.attach_masks(model, harp.weight_budget(model, keep=0.1), harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    with pytest.raises(ValueError, match=r"^0.* computes with \d+ weights that are not zero, and 22 are stored"):
        harp.export(model, EXAMPLE, tmp_path / f"net.{format}", format=format)
    assert [path.name for path in tmp_path.iterdir()] == [f"dense.{format}"]


def test_a_product_that_fills_zeros_outside_any_layer_is_refused(tmp_path):
    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(nn.functional.conv2d(x, self.conv.weight - self.conv.weight.mean()).mean((2, 3)))

    model = Outside().eval()
    harp.attach_masks(model, harp.weight_budget(model, keep=0.1), harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    with pytest.raises(ValueError, match=r"the model itself computes with \d+ weights"):
        harp.export(model, EXAMPLE, tmp_path / "net.harp")


def test_a_card_that_promises_fewer_weights_than_the_file_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the card says that 100 of 15,280 weights are kept"):
        harp.export(network(), EXAMPLE, tmp_path / "net.harp", card={"kept": 100, "total": 15280})
    done = harp.export(pruned_by_torch(), EXAMPLE, tmp_path / "net.harp", card={"kept": 3820, "total": 15280})
    assert json.dumps(read(done.path)[1]) == '{"kept": 3820, "total": 15280}'


def test_a_layer_that_has_two_names_counts_once(tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.shared, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
            self.blocks = nn.ModuleList(nn.Sequential(self.shared, nn.ReLU()) for _ in range(2))

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((2, 3)))

    model = Shared().eval()
    harp.attach_masks(model, harp.weight_budget(model, keep=0.25), harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    done = harp.export(model, EXAMPLE, tmp_path / "net.harp")
    assert (done.kept, done.total) == (208, 832)


def test_what_the_forward_multiplies_by_is_no_weight_of_a_layer(tmp_path):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head, self.gate = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Parameter(torch.rand(8, 1))

        def forward(self, x):
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            return self.head((tokens * (tokens @ self.gate)).mean(1))

    model = Gate().eval()
    harp.attach_masks(model, harp.weight_budget(model, keep=0.1), harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    done = harp.export(model, EXAMPLE, tmp_path / "net.harp")
    assert (done.kept, done.total) == (26, 256)
