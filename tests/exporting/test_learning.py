"""Layers that learn on the engine: what torch computes, forward and back, and nothing that masks remove."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.exporting import Learner
from harp.exporting import learning as learners
from harp.models import build_model
from harp.pruning import attach_frozen_masks, attach_masks, freeze_masks, hold_masks, masks, weight_budget
from harp.pruning.methods import ERK

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")


def sparse(model: nn.Module, *names: str, keep: float = 0.3) -> nn.Module:
    """With random frozen masks on these weights; at least one entry stays."""
    chosen = {}
    for name in names:
        weight = model.get_parameter(name)
        chosen[name] = torch.rand_like(weight) < keep
        chosen[name].view(-1)[0] = True
    return attach_frozen_masks(model, chosen).train()


def gradients(model: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = model(x)
    return [y, *torch.autograd.grad(y, [x, *model.parameters()], upstream)]


def same(model: nn.Module, x: Tensor, threads: int = 1) -> list[Tensor]:
    """Compare with torch in float64: results, gradients of images and of every parameter, buffers."""
    precise = copy.deepcopy(model).double()
    torch.manual_seed(1)
    upstream = torch.randn_like(precise(x.double()))
    precise = copy.deepcopy(model).double()
    wanted = [*gradients(precise, x.double(), upstream), *precise.buffers()]
    with Learner(model, threads=threads)():
        found = [*gradients(model, x, upstream.float()), *model.buffers()]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        assert (ours.double() - theirs.double()).norm() <= 1e-4 * theirs.double().norm()
    return found


@pytest.fixture
def any_density(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "DENSEST", 1.0)


@pytest.mark.usefixtures("any_density")
@pytest.mark.parametrize("seed", range(12))
def test_random_convolutions_are_those_of_torch(seed: int):
    """Kernel, stride, padding, dilation, groups, biases, odd sizes, and batches that fill no vector, or several."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    groups = draw.choice([1, 1, 2, 3])
    inputs, outputs = (groups * draw.randint(1, 4) for _ in range(2))
    kernel, stride, padding, dilation = (
        (draw.randint(low, high), draw.randint(low, high)) for low, high in ((1, 3), (1, 3), (0, 2), (1, 2))
    )
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=draw.random() < 0.5)
    batch = draw.choice([1, 2, 7, 16, 17, 67, 130])
    same(sparse(layer, "weight"), torch.randn(batch, inputs, draw.randint(6, 9), draw.randint(6, 9)))


@pytest.mark.usefixtures("any_density")
@pytest.mark.parametrize("isa", ["baseline", "AVX2"])
def test_other_instruction_sets_agree(isa: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARP_ISA", isa)
    try:
        Learner(sparse(nn.Conv2d(3, 4, 3), "weight"), threads=1)
    except ValueError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    same(sparse(nn.Sequential(*layers), "0.weight", "4.weight"), torch.randn(13, 3, 5, 5))


@pytest.mark.usefixtures("any_density")
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_network_learns_as_in_torch_statistics_included(momentum: float | None):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding="same", bias=False),
        nn.BatchNorm2d(6, momentum=momentum),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.Conv2d(6, 6, 3, padding=1, groups=2, padding_mode="reflect"),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )
    same(sparse(model, "0.weight", "7.weight"), torch.randn(19, 3, 8, 8))


@pytest.mark.usefixtures("any_density")
@pytest.mark.parametrize(
    "pool",
    [{"stride": 2}, {"stride": 1, "padding": 1}, {"ceil_mode": True}, {"dilation": 2, "stride": (1, 2)}],
    ids=str,
)
@pytest.mark.parametrize("batch", [3, 16, 33])
def test_maxima_are_those_of_torch_and_the_first_of_equal_ones_counts(pool: dict, batch: int):
    torch.manual_seed(0)
    pooling = nn.MaxPool2d(3, **pool)
    model = sparse(nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.ReLU(), pooling), "0.weight")
    same(model, torch.randint(-3, 4, (batch, 1, 7, 8)).float())


@pytest.mark.usefixtures("any_density")
def test_no_bit_depends_on_the_number_of_threads():
    torch.manual_seed(0)
    layers = nn.Conv2d(5, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 3, 3)
    model = sparse(nn.Sequential(*layers), "0.weight", "3.weight")
    x = torch.randn(33, 5, 9, 9)
    one, three = (same(copy.deepcopy(model), x, threads) for threads in (1, 3))
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_gradients_of_weights_that_masks_remove_are_zero_and_the_weights_may_change():
    torch.manual_seed(0)
    model = sparse(nn.Conv2d(8, 8, 3), "weight", keep=0.1)
    weight, mask = model.get_parameter("parametrizations.weight.original"), masks(model)["weight"].mask
    learner, x = Learner(model, threads=1), torch.randn(4, 8, 6, 6)
    for _ in range(2):
        with learner():
            y = model(x)
        torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
        (gradient,) = torch.autograd.grad(y.sum(), weight)
        assert mask is not None
        assert not gradient[mask == 0].any()
        assert gradient[mask == 1].all()
        with torch.no_grad():
            weight.mul_(2.0)


def test_masks_of_a_stage_are_followed_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = build_model("resnet_small", shape=(3, 16, 16), classes=4)
    attach_masks(model, weight_budget(model, keep=0.1), ERK)
    freeze_masks(model).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner, x, y = Learner(model, threads=1), torch.rand(17, 3, 16, 16), torch.arange(17) % 4
    with hold_masks(model), learner():
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        ours, theirs = found[name], parameter.grad
        assert ours is not None
        assert theirs is not None
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert not any("forward" in vars(module) for module in model.modules())
    assert len(learner.layers) > 5


@pytest.mark.parametrize("mode", ["autocast", "eval", "double"])
def test_what_it_does_not_compute_stays_in_torch(mode: str):
    torch.manual_seed(0)
    model = sparse(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), "0.weight", keep=0.1)
    learner, x = Learner(model, threads=1), torch.randn(4, 8, 6, 6)
    if mode == "eval":
        model.eval()
    if mode == "double":
        model, x = model.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        wanted = copy.deepcopy(model)(x)
        with learner():
            found = model(x)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_network_without_a_sparse_layer_is_refused():
    with pytest.raises(ValueError, match="no convolution or linear layer of the network is sparse"):
        Learner(nn.Sequential(nn.Conv2d(8, 8, 3)), threads=1)
    dense = nn.Sequential(nn.Conv2d(8, 8, 3))
    attach_masks(dense, weight_budget(dense, keep=0.5), ERK)
    with pytest.raises(ValueError, match="sparse"):
        Learner(freeze_masks(dense), threads=1)
