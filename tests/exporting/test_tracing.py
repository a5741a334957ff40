"""A graph computes what its network computes; what a graph cannot hold is named with its place."""

import copy
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import harp
import harp.runtime
from harp.exporting import rebuild, trace
from harp.exporting.program import check_exportable
from harp.models import MODELS, build_model
from harp.pruning import channel_budget, shrink
from harp.runtime.format import write
from harp.runtime.graph import OPS, Graph

MEAN_STD = ((0.5, 0.4, 0.3), (0.2, 0.1, 0.4))


class Through(nn.Module):
    """A network that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def images(n=3, shape=(4, 8, 8)) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) - 0.3


def check(model: nn.Module, shape=(4, 8, 8), ops: str | None = None) -> Graph:
    """The graph of a model, which computes the same for another batch than the one it was traced with."""
    graph = trace(model, images(1, shape))
    expected = copy.deepcopy(model).eval()(images(3, shape))
    found = rebuild(graph)(images(3, shape))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    for node in graph.nodes:
        assert node.attributes.keys() == OPS[node.op].attributes.keys()
        assert set(OPS[node.op].tensors) <= node.tensors.keys() <= {*OPS[node.op].tensors, *OPS[node.op].optional}
    assert ops is None or [node.op for node in graph.nodes] == ops.split()
    return graph


def check_engine(graph: Graph, folder: Path) -> None:
    """The runtime, from a file, computes what the graph says."""
    write(folder / "net.harp", graph, card={})
    x = images(3, graph.input)
    found = torch.from_numpy(harp.runtime.load(folder / "net.harp", threads=1, autotune=False)(x.numpy()))
    expected = rebuild(graph)(x)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


# Networks


@pytest.mark.parametrize("name", ["vgg_tiny", "resnet_small"])
def test_a_small_network_survives(name, pruned, tmp_path):
    model = pruned(build_model(name, shape=(3, 16, 16), classes=10, mean_std=MEAN_STD), 0.1)
    check_engine(check(model, (3, 16, 16)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [*((n, 32) for n in MODELS if n != "resnet50"), ("resnet50", 224), ("torchvision:mobilenet_v2", 224)],
)
@pytest.mark.parametrize("keep", [1.0, 0.01])
def test_every_network_of_the_project_survives(name, side, keep, pruned, tmp_path):
    model = pruned(build_model(name, shape=(3, side, side), classes=10, mean_std=MEAN_STD), keep)
    graph = check(model, (3, side, side))
    assert not any(node.op == "affine" and "bn" in node.name for node in graph.nodes) or name == "wrn28_4"
    check_engine(graph, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v3_small", "densenet121", "regnet_y_400mf"])
def test_networks_that_nobody_thought_of_survive(name, pruned, tmp_path):
    check_engine(check(pruned(torchvision.models.get_model(name, num_classes=10), 0.05), (3, 64, 64)), tmp_path)


def test_widths_may_be_odd_as_after_the_removal_of_channels(pruned):
    model = nn.Sequential(
        *(nn.Conv2d(3, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(7, 1, 3, stride=2), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 13, 1), nn.BatchNorm2d(13)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(13, 5)),
    )
    ops = "conv relu max_pool conv relu conv adaptive_avg_pool flatten linear"
    check(pruned(model, 0.5), (3, 9, 11), ops)


def test_a_network_that_lost_channels_survives(pruned, tmp_path):
    model = pruned(build_model("resnet_small", shape=(3, 16, 16), classes=10, mean_std=MEAN_STD), 1.0).eval()
    x = images(2, (3, 16, 16))
    harp.attach_masks(model, channel_budget(model, x, keep=0.4), harp.methods.LWM)
    shrink(harp.bake_masks(harp.freeze_masks(model)), x)
    graph = check(model, (3, 16, 16))
    assert {node.tensors["weight"].shape[0] for node in graph.nodes if node.op == "conv"} - {16, 32, 64}
    check_engine(graph, tmp_path)


def test_a_pruned_network_has_no_more_weights_in_its_graph_than_in_its_budget(pruned):
    model = pruned(build_model("resnet_small", shape=(1, 8, 8), classes=4), 0.1)
    kept = sum(int(w.count_nonzero()) for name, w in model.named_parameters() if w.dim() > 1)
    graph = trace(model, images(1, (1, 8, 8)))
    assert sum(int((n.tensors["weight"] != 0).sum()) for n in graph.nodes if "weight" in n.tensors) == kept


# Operations


@pytest.mark.parametrize(
    ("layer", "ops"),
    [
        (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), "conv"),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), "conv"),
        (nn.Conv2d(4, 5, 3, padding="same", dilation=2), "conv"),
        (nn.Conv2d(4, 5, 3, padding="valid"), "conv"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.ReLU6(), "relu6"),
        (nn.Hardtanh(0, 6), "relu6"),
        (nn.LeakyReLU(0.2), "leaky_relu"),
        (nn.SiLU(), "silu"),
        (nn.GELU(), "gelu"),
        (nn.GELU("tanh"), "gelu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Hardswish(), "hardswish"),
        (nn.Hardsigmoid(), "hardsigmoid"),
        (nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), "max_pool"),
        (nn.MaxPool2d((2, 3)), "max_pool"),
        (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), "avg_pool"),
        (nn.AvgPool2d(2, ceil_mode=True), "avg_pool"),
        (nn.AdaptiveAvgPool2d((3, 2)), "adaptive_avg_pool"),
        (nn.AdaptiveAvgPool2d((None, 1)), "adaptive_avg_pool"),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 3, bias=False)), "flatten linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 3), nn.BatchNorm1d(3), nn.Softmax(-1)), "flatten linear softmax"),
        (nn.Softmax(dim=1), "softmax"),
        (nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Dropout2d(0.5), nn.Identity()), "relu"),
        (nn.BatchNorm2d(4, affine=False), "affine"),
    ],
    ids=str,
)
def test_a_layer_becomes_its_operation(layer, ops, pruned):
    check(pruned(layer, 1.0), ops=ops)


WEIGHT, PER_CHANNEL = torch.rand(4, 4, 1, 1), torch.tensor([0.5, -1.0, 2.0, 0.25]).view(4, 1, 1)


@pytest.mark.parametrize(
    ("function", "ops"),
    [
        (lambda x: x.mean((2, 3)), "adaptive_avg_pool flatten"),
        (lambda x: x.mean([-1, -2], keepdim=True) * x, "adaptive_avg_pool mul"),
        (lambda x: x.relu().view(x.size(0), -1), "relu flatten"),
        (lambda x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1), "adaptive_avg_pool flatten"),
        (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), "adaptive_avg_pool flatten"),
        (lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0], "adaptive_avg_pool flatten"),
        (lambda x: x.flatten(2).unflatten(2, (8, 8)).relu(), "relu"),
        (lambda x: x.mean((2, 3)).unsqueeze(1).flatten(1).relu(), "adaptive_avg_pool flatten relu"),
        (lambda x: torch.cat([x.relu(), x, x.sigmoid()], 1), "relu sigmoid concat"),
        (lambda x: x.relu() + x, "relu add"),
        (lambda x: x.relu() - 2 * x.sigmoid(), "relu sigmoid affine add"),
        (lambda x: torch.sub(x.relu(), x, alpha=2), "relu affine add"),
        (lambda x: x.relu() * x, "relu mul"),
        (lambda x: x.clamp(min=0).clamp(0, 6), "relu relu6"),
        (lambda x: 3 * x / PER_CHANNEL + 1 - x.new_tensor(2.0), "affine"),
        (lambda x: 2 - (-x), "affine"),
        (lambda x: x * PER_CHANNEL[None], "affine"),
        (lambda x: F.conv2d(x, WEIGHT * 2 + WEIGHT.mean()), "conv"),
        (lambda x: x.relu_().add_(1).mul_(PER_CHANNEL), "relu affine"),
        (lambda x: (x.cumsum(1), x.relu())[1], "relu"),
        (lambda x: x.to(torch.float32).contiguous().relu().clone().detach(), "relu"),
    ],
)
def test_what_a_forward_writes_out_becomes_operations(function, ops):
    check(Through(function), ops=ops)


def test_weights_that_are_computed_from_parameters_are_constants():
    check(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3)), ops="conv")


def test_filters_that_lie_channels_last_change_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    example = torch.rand(2, 3, 8, 8)
    graph = trace(model, example)
    again = trace(model.to(memory_format=torch.channels_last), example)
    assert [node.op for node in again.nodes] == [node.op for node in graph.nodes]
    with torch.no_grad():
        torch.testing.assert_close(rebuild(again)(example), model(example))


def test_a_module_that_is_called_twice_is_there_twice():
    layer = nn.Conv2d(4, 4, 1)
    check(nn.Sequential(layer, nn.ReLU(), layer), ops="conv relu conv")


# Folding


def test_a_batch_norm_is_merged_into_the_layer_before_it(pruned):
    check(pruned(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()), 1.0), ops="conv relu")
    check(pruned(nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)), 1.0), ops="conv")


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x


def test_a_batch_norm_is_not_merged_into_a_layer_that_another_reads(pruned):
    check(pruned(TwoReaders(), 1.0), ops="conv affine add")


def test_a_normalisation_of_the_images_stays_in_front_of_the_padding(pruned):
    model = nn.Sequential(harp.models.Normalize(*MEAN_STD), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    graph = check(model, (3, 8, 8), ops="affine conv relu")
    assert graph.nodes[0].name == "0"


def test_nodes_bear_the_path_of_their_module(pruned):
    graph = trace(build_model("resnet_small", shape=(1, 8, 8), classes=4), images(1, (1, 8, 8)))
    assert [node.name for node in graph.nodes if node.op in ("conv", "linear")][:3] == [
        "conv1",
        "layer1.0.conv1",
        "layer1.0.conv2",
    ]


# The model is left alone


def test_mode_parameters_and_statistics_stay(pruned):
    model = pruned(build_model("resnet_small", shape=(1, 8, 8), classes=4), 0.5)
    model.layer1.eval()
    modes, before = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    trace(model, images(2, (1, 8, 8)))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(a is b and a.requires_grad for a, b in zip(parameters, model.parameters(), strict=True))


def test_the_graph_holds_copies(pruned):
    model = nn.Conv2d(4, 4, 1)
    graph = trace(model, images())
    with torch.no_grad():
        model.weight.zero_()
    assert graph.nodes[0].tensors["weight"].any()


# Refusals


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(Through(lambda x: x.cumsum(1)))), r"1\.0 \(Through\).*cumsum"),
        (nn.Sequential(nn.ReLU(), nn.Softshrink()), r"^1 \(Softshrink\) computes aten.gt.*torch.bool.*format='onnx'"),
        (nn.BatchNorm2d(4, track_running_stats=False), r"^the model itself \(BatchNorm2d\).*depends on the others"),
        (nn.MaxPool2d(2, dilation=2), "dilation"),
        (nn.AdaptiveMaxPool2d(3), r"divides \(8, 8\) into \(3, 3\)"),
        (Through(lambda x: x + torch.rand(4, 8, 8)), "it is random"),
        (Through(lambda x: x / x.sum()), "aten.sum"),
        (Through(lambda x: x.mean((2, 3))[:, None] @ x.mean((2, 3))[..., None] + x.sum()), "aten.sum"),
        (Through(lambda x: x / x.shape[0]), "computes with the size of the batch"),
        (Through(lambda x: x + torch.arange(x.shape[0]).float()[:, None, None, None]), "computes aten"),
        (Through(lambda x: x.reshape(-1, 8).T.relu()), "first dimension is not that of the images"),
        (Through(lambda x: x.transpose(0, 1).reshape(2, -1, 8, 8)), "first dimension is not that of the images"),
        (Through(lambda x: x.mean(0, keepdim=True)), "mixes the images"),
        (Through(lambda x: x.softmax(0)), "mixes the images"),
        (Through(lambda x: x.flip(0)), "mixes the images"),
        (Through(lambda x: x.argmax(1)), "torch.int64"),
        (Through(lambda x: torch.where(x > 0, x, 0)), "torch.bool|depends on the image"),
        (Through(lambda x: torch.einsum("nchw,nchv->hw", x, x)), "mixes the images"),
        (Through(lambda x: F.linear(x, x[0, 0])), "mixes the images"),
        (Through(lambda x: x.double()), "torch.float64"),
        (Through(lambda x: F.conv2d(x, x.mean((0,), keepdim=True))), "mixes"),
        (Through(lambda x: x.relu() if x.shape[0] > 5 else x.sigmoid()), "branches on the size of a batch"),
        (Through(lambda x: x.relu() if x.shape[0] == 2 else x.sigmoid()), "cannot follow Through"),
        (Through(lambda x: {"logits": x.relu()}), "returns a dict: expected one tensor"),
        (Through(lambda x: x), "nothing to export"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_graph_cannot_hold_is_named(model, message):
    with pytest.raises(ValueError, match=message):
        trace(model, images())


def test_a_model_that_is_broken_is_refused():
    model = nn.Sequential(nn.Conv2d(4, 4, 1))
    nn.init.constant_(model[0].weight, float("nan"))
    with pytest.raises(ValueError, match="0 has a weight with values that are not finite"):
        trace(model, images())


def test_masks_have_to_be_baked_in_first():
    model = nn.Sequential(nn.Conv2d(4, 4, 3))
    harp.attach_masks(model, harp.weight_budget(model, keep=0.5))
    with pytest.raises(ValueError, match=re.escape("call freeze_masks(model) and bake_masks(model)")):
        trace(model, images())
    harp.freeze_masks(model)
    with pytest.raises(ValueError, match=re.escape("masks on 1 weights; call bake_masks(model)")):
        trace(model, images())
    check(harp.bake_masks(model), ops="conv")


@pytest.mark.parametrize("example", [torch.rand(4, 8, 8), torch.rand(1, 4, 8, 8).double(), torch.rand(0, 4, 8, 8)])
def test_an_example_that_is_no_batch_of_images_is_refused(example):
    with pytest.raises(ValueError, match="example must be a batch of images, float32"):
        trace(nn.Conv2d(4, 4, 1), example)


def test_an_example_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="example is a ndarray: expected a tensor"):
        inspect.unwrap(check_exportable)(nn.Conv2d(4, 4, 1), np.zeros((1, 4, 8, 8), np.float32))
