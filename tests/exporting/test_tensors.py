"""Operations on tensors of any shape: the graph, the engine and numpy compute what PyTorch computes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.exporting import rebuild, sparse_module, trace
from harp.runtime import Session
from harp.runtime.graph import Graph, Node

CASES: dict[str, nn.Module] = {}
RNG = torch.Generator().manual_seed(0)
SQUARE, POSITIONS, CLASS = (torch.randn(*shape, generator=RNG) for shape in ((8, 8), (1, 64, 4), (1, 1, 4)))
WEIGHT, QKV = torch.randn(5, 4, generator=RNG), torch.randn(24, 4, generator=RNG)


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def case(function):
    CASES[function.__name__] = Through(function)
    return function


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def heads(x: Tensor) -> tuple[Tensor, ...]:
    batch, count, _ = tokens(x).shape
    return F.linear(tokens(x), QKV).reshape(batch, count, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)


@case
def attention_written_out(x):
    q, k, v = heads(x)
    return ((q * 0.5 @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(x.shape[0], 64, 8)


@case
def attention_with_a_mask(x):
    return F.scaled_dot_product_attention(*heads(x), attn_mask=SQUARE.repeat(8, 8) > 0)


@case
def attention_with_a_bias(x):
    return F.scaled_dot_product_attention(*heads(x), attn_mask=SQUARE.repeat(8, 8)[None, None], scale=0.3)


@case
def causal_attention(x):
    return F.scaled_dot_product_attention(*heads(x), is_causal=True)


@case
def attention_across_windows_that_were_rolled(x):
    t = x.permute(0, 2, 3, 1).roll((1, 2), (1, 2))
    b = t.shape[0]
    w = t.view(b, 2, 4, 2, 4, 4).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 16, 4)
    w = F.layer_norm(w @ w.transpose(1, 2).softmax(-1) @ w, (4,))
    return w.view(b, 2, 2, 4, 4, 4).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, 8, 8, 4)


@case
def tokens_with_a_class_and_positions(x):
    t = torch.cat([CLASS.expand(x.shape[0], -1, -1), tokens(x) + POSITIONS], 1)
    return F.gelu(F.linear(F.layer_norm(t, (4,)), WEIGHT))[:, 0]


@case
def a_convnext_block(x):
    t = F.linear(F.gelu(F.linear(F.layer_norm(x.permute(0, 2, 3, 1), (4,)), WEIGHT)), WEIGHT.T)
    return x + (t * WEIGHT[0]).permute(0, 3, 1, 2)


@case
def a_gate_of_one_channel(x):
    return x * torch.sigmoid(x[:, :1])


@case
def channels_of_a_map_written_into_it(x):
    y = x.clone()
    y[:, 1:3] = y[:, 1:3] * 2
    return y


@case
def a_flat_value_as_a_map_before_a_transposed_convolution(x):
    maps = F.linear(x.flatten(1), SQUARE.repeat(4, 32)).view(-1, 8, 2, 2)
    return F.conv_transpose2d(maps, SQUARE[:, :3, None, None] * torch.ones(2, 2), stride=2)


@case
def convolutions_inside_of_windows(x):
    w = x.view(-1, 4, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 4, 4)
    w = F.conv2d(w, torch.ones(3, 4, 3, 3), padding=1)
    return F.batch_norm(w, SQUARE[0, :3], SQUARE[1, :3].abs(), SQUARE[2, :3], SQUARE[3, :3]).view(x.shape[0], -1)


@case
def statistics_of_channels_and_positions(x):
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + x.std((2, 3), keepdim=True) + 1)


@case
def images_between_other_dimensions(x):
    return x.permute(2, 0, 1, 3).reshape(8, -1, 8).softmax(2).view(8, -1, 4, 8).permute(1, 2, 0, 3)


CASES |= {
    str(layer): layer
    for layer in (
        *(
            nn.ELU(0.5),
            nn.SELU(),
            nn.Mish(),
            nn.Tanh(),
            nn.PReLU(4),
            nn.Hardtanh(-0.2, 0.3),
            nn.Softplus(2.0),
            nn.GLU(1),
        ),
        *(nn.LogSoftmax(1), nn.Softmax(2), nn.Softmax(3), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)),
        *(nn.LayerNorm((4, 8, 8)), nn.RMSNorm((8,)), nn.Linear(8, 3), nn.ChannelShuffle(2), nn.PixelShuffle(2)),
        *(
            nn.PixelUnshuffle(2),
            nn.ZeroPad2d((0, 1, 2, 0)),
            nn.AdaptiveMaxPool2d(2),
            nn.AvgPool2d(2, divisor_override=3),
        ),
        *(nn.Upsample(scale_factor=2), nn.Upsample(size=(5, 11)), nn.Upsample(scale_factor=2, mode="bilinear")),
        nn.Upsample(size=(5, 13), mode="bilinear", align_corners=True),
        nn.Upsample(scale_factor=1.5, mode="bicubic"),
        nn.ConvTranspose2d(4, 5, 2, 2),
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        nn.ConvTranspose2d(4, 3, (3, 2), (3, 1), (0, 1)),
        nn.ConvTranspose2d(4, 3, 3, 1, 0, dilation=2, bias=False),
        *(nn.Conv2d(4, 5, 3, padding=1, padding_mode=mode) for mode in ("reflect", "circular", "replicate")),
        nn.Unfold(3, padding=1, stride=2),
    )
}
CASES |= {
    name: Through(function)
    for name, function in {
        "parts": lambda x: (
            torch.cat(x.chunk(2, 1)[::-1], 1) + torch.cat(x.split([1, 3], 1), 1)[:, :, ::2].repeat(1, 1, 2, 1)
        ),
        "a channel": lambda x: x[:, 1],
        "stack": lambda x: torch.stack([x, x * 2], 2).flatten(1, 2),
        "indices": lambda x: tokens(x)[:, torch.tensor([[0, 5], [7, 3]])],
        "a constant matrix": lambda x: SQUARE @ x @ SQUARE,
        "a product of an image with itself": lambda x: x @ x.transpose(2, 3),
        "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
        "means": lambda x: x.mean((1, 2, 3), keepdim=True) * tokens(x).mean(1)[:, :, None, None],
        "extremes": lambda x: x.amax((2, 3)) - x.min(dim=3)[0].max(dim=2)[0],
        "unit length": lambda x: F.normalize(x, dim=1) + F.normalize(x, dim=3),
        "quotients": lambda x: x / (x.relu() + 1) + 1 / (x.abs() + 2) ** 1.5,
        "a map of constants": lambda x: x + torch.arange(64.0).view(8, 8),
        "ones of the size of the batch": lambda x: x + torch.ones(x.shape[0], 1, 1, 1),
        "a constant condition": lambda x: torch.where(SQUARE > 0, x, 0.5).masked_fill(SQUARE < -1, -1.0),
        "positions of a mask": lambda x: torch.cat(
            [x, (~torch.zeros(x.shape[0], 8, 8, dtype=torch.bool)).cumsum(1, dtype=torch.float32)[:, None].sin()], 1
        ),
        "einsum of heads": lambda x: torch.einsum("bhc,hkc->bhk", x.reshape(-1, 8, 8), SQUARE.repeat(8, 1, 1)).view(
            x.shape
        ),
        "images beside channels": lambda x: (x.reshape(-1, 8, 8) - 2 * x.reshape(-1, 8, 8).relu()).view(x.shape),
        "windows": lambda x: x.unfold(2, 3, 2).contiguous(),
        "a constant of its type": lambda x: torch.where(x.new_ones((8, 8)).cumsum(0) > 3, x, 1.0),
        "pooled windows": lambda x: (
            F.max_pool2d(x.reshape(-1, 2, 8, 8), 2).view(-1, 64) - F.avg_pool2d(x.reshape(-1, 2, 8, 8), 2).view(-1, 64)
        ),
        "pooled rows": lambda x: F.avg_pool1d(x.flatten(2), 4, 2, 1),
        "repeats": lambda x: x.repeat_interleave(2, 2).repeat(1, 2, 1, 1).flip(3),
    }.items()
}


def images(n: int) -> Tensor:
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(n))


def difference(found: np.ndarray | Tensor, expected: Tensor) -> float:
    assert tuple(found.shape) == tuple(expected.shape)
    return float((torch.as_tensor(found) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("model", CASES.values(), ids=CASES)
def test_what_torch_computes(model: nn.Module, monkeypatch: pytest.MonkeyPatch):
    model = model.eval()
    graph = trace(model, images(1))
    engine = Session(graph, threads=1, autotune=False)
    for count in (1, 5):
        with torch.no_grad():
            expected = model(images(count))
        assert difference(rebuild(graph)(images(count)), expected) < 1e-5
        assert difference(engine(images(count).numpy()), expected) < 1e-5
        with monkeypatch.context() as patch:
            patch.setattr("harp.runtime.session._engine", None)
            assert difference(Session(graph, threads=1)(images(count).numpy()), expected) < 1e-5


def kinds(model: nn.Module) -> list[str]:
    return [layer.kind for layer in Session(trace(model.eval(), images(1)), threads=1, autotune=False).layers()]


def test_a_padding_on_one_side_is_part_of_the_convolution_that_follows():
    model = nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(4, 5, 3, stride=2, padding=1))
    assert kinds(model) == ["conv"]
    assert difference(Session(trace(model, images(1)), threads=1)(images(3).numpy()), model(images(3)).detach()) < 1e-5


def test_channels_last_and_back_moves_nothing():
    assert kinds(CASES["a_convnext_block"]) == ["normalise", "conv", "conv"]


def test_halves_of_the_channels_stay_a_map():
    assert kinds(Through(lambda x: x[:, :2] * x[:, 2:].sigmoid())) == ["channels", "channels", "activation", "mul"]


def test_zeros_of_a_transposed_convolution_stay_zeros():
    layer = nn.ConvTranspose2d(4, 6, 3, 2, 1)
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape, generator=RNG) < 0.9] = 0
    nodes = trace(layer, images(1)).nodes
    kept = sum(np.count_nonzero(node.tensors["weight"]) for node in nodes if "weight" in node.tensors)
    assert kept == int(layer.weight.count_nonzero())


@pytest.mark.parametrize(
    "name", ["attention_with_a_bias", "a_convnext_block", "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)"]
)
def test_the_number_of_threads_changes_no_bit(name: str):
    graph = trace(CASES[name].eval(), images(1))
    alone, together = (Session(graph, threads=n, autotune=False)(images(1).numpy()) for n in (1, 3))
    assert np.array_equal(alone, together)


def test_a_network_with_tensors_takes_images_of_the_traced_size_alone():
    session = Session(trace(CASES["attention_with_a_bias"], images(1)), threads=1)
    with pytest.raises(ValueError, match=r"image=\(4, 8, 9\).*fixed shapes.*\(4, 8, 8\)"):
        session(np.zeros((1, 4, 8, 9), np.float32))


def test_new_weights_are_taken_over():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), Through(lambda x: x + POSITIONS.view(4, 8, 8)))
    session = Session(trace(model, images(1)), threads=1, autotune=False)
    session(images(2).numpy())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3)
    session.update(trace(model, images(1)))
    assert difference(session(images(2).numpy()), model(images(2)).detach()) < 1e-5


def test_what_has_no_way_back_is_named_before_an_attack_begins():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))
    with pytest.raises(ValueError, match=r"^1 computes rows_normalise, through which the engine has no way back"):
        sparse_module(model, images(1))
    with pytest.raises(ValueError, match=r"0 computes tanh, through which the engine has no way back"):
        sparse_module(nn.Sequential(nn.Tanh()), images(1))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("reshape", (0,), {"shape": (5, 5)}), "of another number of entries"),
        (Node("permute", (0,), {"order": (0, 1, 1)}), "each axis of its input once"),
        (Node("take", (0,), {"axis": 0, "index": (0, 4)}), "entries of axis 0"),
        (Node("take", (0,), {"axis": 3, "index": (0,)}), "axis=3"),
        (Node("take", (0,), {"axis": 0, "index": (-1,)}), "integers from 0"),
        (Node("expand", (0,), {"shape": (4, 8, 9)}), "cannot be repeated|broadcast"),
        (Node("expand", (0,), {"shape": (2**10, 2**11, 4, 8, 8)}), "more than"),
        (Node("pad", (0,), {"before": (1,), "after": (1,), "value": 0.0}), "one entry for each axis"),
        (Node("pad", (0,), {"before": (0, 0, 0), "after": (0, 0, 0), "value": float("inf")}), "expected float"),
        (Node("matmul", (0, 0), {"factor": 1.0}), None),
        (Node("matmul", (0, 1), {"factor": 1.0}), "values computed before"),
        (Node("reduce", (0,), {"how": "median"}), "expected one of sum"),
        (Node("layer_norm", (0,), {"axes": 4, "eps": 0.1, "centred": True}), "axes=4"),
        (Node("group_norm", (0,), {"groups": 3, "eps": 0.1}), "groups=3"),
        (Node("reshape", (0,), {"shape": (1,) * 7}), "1 to 6 axes"),
    ],
)
def test_a_file_with_such_a_node_is_refused(node: Node, message: str | None):
    graph = Graph((4, 8, 8), (node,))
    if message is None:
        assert Session(graph, threads=1)(images(1).numpy()).shape == (1, 4, 8, 8)
    else:
        with pytest.raises(ValueError, match=message):
            Session(graph, threads=1)
