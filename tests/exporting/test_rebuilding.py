"""A graph rebuilt in torch computes what each operation is defined to be."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.exporting import rebuild
from harp.exporting.rebuilding import _LAYERS
from harp.exporting.tensor_layers import TENSOR_LAYERS
from harp.runtime.graph import OPS, Graph, Node

POOL = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1), "ceil": True}
CONV = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def one(op: str, attributes=None, tensors=None, inputs=(0,)) -> nn.Module:
    return rebuild(Graph((4, 6, 5), (Node(op, inputs, attributes or {}, tensors or {}),)))


def test_every_operation_of_the_format_can_be_rebuilt():
    assert _LAYERS.keys() | TENSOR_LAYERS.keys() == OPS.keys()
    assert not _LAYERS.keys() & TENSOR_LAYERS.keys()


def test_a_convolution_has_its_stride_padding_dilation_groups_and_bias():
    weight, bias, x = normal(6, 2, 3, 2), normal(6), torch.randn(3, 4, 6, 5)
    found = one("conv", CONV, {"weight": weight, "bias": bias})(x)
    expected = F.conv2d(x, torch.tensor(weight), torch.tensor(bias), (2, 1), (1, 0), (1, 2), 2)
    torch.testing.assert_close(found, expected)
    assert torch.equal(
        one("conv", CONV, {"weight": weight})(x), F.conv2d(x, torch.tensor(weight), None, (2, 1), (1, 0), (1, 2), 2)
    )


def test_a_linear_layer_follows_a_flattening():
    weight, bias, x = normal(3, 120), normal(3), torch.randn(2, 4, 6, 5)
    nodes = (Node("flatten", (0,)), Node("linear", (1,), {}, {"weight": weight, "bias": bias}))
    expected = x.flatten(1) @ torch.tensor(weight).T + torch.tensor(bias)
    torch.testing.assert_close(rebuild(Graph((4, 6, 5), nodes))(x), expected)


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (2, 4)])
def test_an_affine_works_on_channels_of_maps_and_on_features(shape):
    scale, shift, x = normal(4), normal(4), torch.randn(shape)
    per_channel = (1, 4) + (1,) * (len(shape) - 2)
    expected = x * torch.tensor(scale).view(per_channel) + torch.tensor(shift).view(per_channel)
    torch.testing.assert_close(one("affine", {}, {"scale": scale, "shift": shift})(x), expected)


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("relu", {}, F.relu),
        ("relu6", {}, F.relu6),
        ("leaky_relu", {"slope": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
        ("sigmoid", {}, torch.sigmoid),
        ("silu", {}, F.silu),
        ("hardswish", {}, F.hardswish),
        ("hardsigmoid", {}, F.hardsigmoid),
        ("gelu", {"tanh": True}, lambda x: F.gelu(x, approximate="tanh")),
        ("gelu", {"tanh": False}, F.gelu),
        ("softmax", {}, lambda x: x.softmax(1)),
        ("max_pool", POOL, lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 1), ceil_mode=True)),
        ("avg_pool", {**POOL, "count_padding": False}, lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 1), True, False)),
        ("avg_pool", {**POOL, "count_padding": True}, lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 1), True, True)),
        ("adaptive_avg_pool", {"size": (2, 3)}, lambda x: F.adaptive_avg_pool2d(x, (2, 3))),
        ("flatten", {}, lambda x: x.flatten(1)),
    ],
)
def test_an_operation_of_one_input_is_torchs(op, attributes, expected):
    x = 4 * torch.randn(2, 4, 6, 5)
    assert torch.equal(one(op, attributes)(x), expected(x))


def test_branches_join_by_sum_product_and_concatenation():
    x = torch.randn(2, 4, 6, 5)
    nodes = (
        Node("adaptive_avg_pool", (0,), {"size": (1, 1)}),
        Node("mul", (0, 1)),
        Node("add", (2, 1)),
        Node("concat", (3, 0, 2)),
    )
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(rebuild(Graph((4, 6, 5), nodes))(x), torch.cat([x * mean + mean, x, x * mean], 1))


def test_a_rebuilt_network_takes_any_batch_and_layout_and_lets_go_of_values():
    nodes = (
        Node("conv", (0,), {**CONV, "stride": (1, 1), "dilation": (1, 1)}, {"weight": normal(6, 2, 3, 1)}),
        Node("relu", (1,)),
        Node("concat", (2, 2)),
    )
    model = rebuild(Graph((4, 6, 5), nodes))
    x = torch.randn(7, 4, 6, 5)
    same = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(same, model(x))
    assert not model.training
    assert "node0 = None" in model.code


@pytest.mark.slow
def test_a_rebuilt_network_compiles():
    model = one("conv", CONV, {"weight": normal(6, 2, 3, 2)})
    x = torch.randn(3, 4, 6, 5)
    torch.testing.assert_close(torch.compile(model)(x), model(x))
