"""Masks on channels, and networks without them: what is masked is what removing would leave, whatever the network."""

import copy

import pytest
import torch
import torchvision
from channel_networks import ConvNeXt, Graph, UNet, lively, program_from, take_through
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harp.models import build_model
from harp.pruning import (
    HARP,
    HYDRA,
    RANDOM,
    Descent,
    attach_frozen_masks,
    attach_masks,
    bake_masks,
    channel_budget,
    freeze_masks,
    hold_masks,
    keep_logits,
    macs,
    masks,
    shrink,
    trainable,
)
from harp.pruning.channels import couple_channels, resize, widths

OURS = {
    "vgg16_bn": lambda: build_model("vgg16_bn", shape=(3, 32, 32), classes=10),
    "resnet18": lambda: build_model("resnet18", shape=(3, 32, 32), classes=10),
    "wrn28_4": lambda: build_model("wrn28_4", shape=(3, 32, 32), classes=10),
}
TORCHVISION = ["resnet50", "mobilenet_v2", "densenet121", "shufflenet_v2_x0_5", "resnext50_32x4d", "efficientnet_b0"]


def images(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def flops(model: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x[:1])
    return counter.get_total_flops()


def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return lively(build_model("resnet_small", shape=(3, 14, 14), classes=5))


# removal is what masking promised


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_a_random_graph_says_the_same_with_masks_and_without_the_channels(data):
    a_random_graph_says_the_same(data)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(st.data())
def test_many_random_graphs_say_the_same_with_masks_and_without_the_channels(data):
    a_random_graph_says_the_same(data)


def a_random_graph_says_the_same(data):
    torch.manual_seed(data.draw(st.integers(0, 100)))
    model = lively(Graph(program_from(data.draw, st)))
    x, keep = torch.rand(2, 3, 8, 8), data.draw(st.floats(0.3, 0.95))
    try:
        channel_budget(model, x, keep=keep)
    except ValueError as refused:
        reason = str(refused)
        # Everything hangs together in so small a graph, or too much of it.
        assume("smallest reachable" not in reason and "nothing is left to prune" not in reason)
        raise
    taken = take_through(model, x, keep, RANDOM)
    assert taken.difference <= 1e-5
    assert macs(model, x) == taken.budget.spent(taken.counts) <= taken.budget.limit
    assert sum(p.numel() for p in model.parameters()) == sum(
        taken.budget.coupling.entries(name, taken.counts) for name, _ in model.named_parameters()
    )


@pytest.mark.parametrize("network", [UNet, ConvNeXt, small_resnet])
@pytest.mark.parametrize("keep", [0.6, 0.75])
def test_a_small_network_says_the_same_without_the_channels(network, keep):
    torch.manual_seed(0)
    model, x = lively(network()), images(side=16)
    before = flops(model, x)
    taken = take_through(model, x, keep)
    assert taken.difference <= 1e-5
    assert taken.budget.total == before / 2
    assert taken.budget.spent(taken.counts) == flops(model, x) / 2 <= keep * before / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OURS, *TORCHVISION])
def test_a_known_network_says_the_same_without_half_of_its_multiplications(name):
    torch.manual_seed(0)
    model = OURS[name]() if name in OURS else torchvision.models.get_model(name, num_classes=10)
    x = images(side=32 if name in OURS else 64)
    taken = take_through(lively(model), x, 0.5)
    assert taken.difference <= 1e-5
    assert flops(model, x) / 2 == taken.budget.spent(taken.counts) <= taken.budget.limit


def test_the_products_of_a_fused_transformer_layer_are_counted_too():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, 4)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.head = nn.Linear(16, 5)

        def forward(self, x):
            return self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    torch.manual_seed(0)
    model, x = Patches().eval(), images(side=16)
    weights = 16 * (48 * 16 + 3 * 16 * 16 + 16 * 16 + 2 * 16 * 32)
    assert macs(model, x) == weights + 16 * 5  # not attention itself, which the counter does not know
    taken = take_through(model, x, 0.8)
    assert macs(model, x) == taken.budget.spent(taken.counts) <= taken.budget.limit


def test_a_bias_behind_the_norm_of_a_masked_channel_does_not_leak():
    """A mask on what a convolution writes would leave the bias of the batch norm behind it to its readers."""
    model = small_resnet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 3.0)
    assert take_through(model, images(side=14), 0.3).difference <= 1e-5


def test_shrinking_removes_what_is_zero_by_itself():
    model = lively(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)))
    with torch.no_grad():
        model[4].weight.view(4, 8, 36)[:, [1, 4, 5]] = 0
    x = images(side=8)
    before = model(x)
    shrink(model, x)
    assert model[0].out_channels == model[1].num_features == 5
    assert torch.allclose(model(x), before, atol=1e-6)


def test_a_network_with_its_size_written_down_is_refused_before_any_work():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8 * 64, 4)

        def forward(self, x):
            return self.head(self.conv(x).view(-1, 512))

    model = Fixed()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="size is written"):
        channel_budget(model, images(side=8), keep=0.5)
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    assert model.conv.out_channels == 8


def test_what_goes_into_an_operation_that_is_not_understood_stays_and_is_named():
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x).abs()

    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), Fourier(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1))
    budget = channel_budget(model, images(side=8), keep=0.8)
    assert budget.coupling.sizes == {"0": 8, "3": 4}
    assert "8 channels of 1 (fft_c2c in 2)" in budget.coupling.why_held()
    assert take_through(model, images(side=8), 0.8).difference <= 1e-5


# groups


def test_a_residual_stage_is_one_group_and_inner_channels_are_their_own():
    coupling = couple_channels(build_model("resnet18", shape=(3, 32, 32), classes=10), images())
    assert list(coupling.sizes)[:3] == ["conv1", "layer1.0.conv1", "layer1.1.conv1"]
    held = {axis.tensor for axis in coupling.axes if "conv1" in coupling.held(axis)}
    assert {"conv1.weight", "layer1.0.conv2.weight", "layer1.1.conv2.weight", "layer1.0.bn2.bias"} <= held
    assert "layer1.0.bn1.weight" not in held


def test_the_image_and_the_classes_belong_to_no_group():
    coupling = couple_channels(build_model("vgg_tiny", shape=(3, 16, 16), classes=5), images(side=16))
    axes = {(axis.tensor, axis.dim) for axis in coupling.axes}
    assert ("features.0.weight", 0) in axes
    assert ("features.0.weight", 1) not in axes
    assert ("classifier.2.weight", 0) not in axes


def test_a_flattened_channel_is_all_its_columns():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2))
    coupling = couple_channels(model, images(side=2))
    (columns,) = coupling.read()
    assert columns.place.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize("pattern", ["layer2", "layer2.*", "layer2.*.weight"])
def test_who_excludes_a_module_excludes_all_that_is_in_it(pattern):
    model = small_resnet()
    coupling = couple_channels(model, images(side=14), [pattern])
    assert [*coupling.sizes] == ["layer1.0.conv1", "layer3.0.conv1", "layer3.0.conv2"]


def test_what_is_excluded_keeps_what_it_reads_and_writes():
    model = nn.Sequential(*(nn.Conv2d(a, b, 1) for a, b in [(3, 4), (4, 5), (5, 6), (6, 2)]))
    assert couple_channels(model, images(side=4), ["1.weight"]).sizes == {"2": 6}


# one mask per group


@pytest.fixture
def learning():
    model = small_resnet()
    budget = channel_budget(model, images(side=14), keep=0.3)
    attach_masks(model, budget, HARP)
    return model, budget


def test_a_group_has_one_score_vector_and_one_keep_fraction(learning):
    model, budget = learning
    found = masks(model)
    assert list(found) == list(budget.sites)
    assert all(mask.scores.shape == (1, budget.coupling.sizes[name]) for name, mask in found.items())
    assert len(keep_logits(model)) == len(found)
    assert not any(p is logit for p in trainable(model) for logit in keep_logits(model))


def test_scores_and_fractions_learn_from_all_that_read_the_group(learning):
    model, budget = learning
    with hold_masks(model):
        (model(images(side=14)).square().mean() + 0.01 * budget.excess(model)).backward()
    for name, mask in masks(model).items():
        assert mask.scores.grad.count_nonzero() > 0, name
        assert mask.logit.grad.isfinite(), name
    assert all(p.grad is None for name, p in model.named_parameters() if name.endswith("weight.original"))


def test_the_gradient_of_a_score_is_the_sum_over_its_readers():
    """Two readers of one group: dL/dm by hand is the sum over their columns."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2))
    x = torch.rand(6, 3)
    attach_masks(model, channel_budget(model, x, keep=0.7), HYDRA)
    model(x).sum().backward()
    mask = masks(model)["0"]
    hidden = model[0](x)
    weight = model[1].parametrizations.weight.original
    by_hand = torch.einsum("ni,oi,po->i", hidden, weight, model[2].weight)
    assert torch.allclose(mask.scores.grad[0], by_hand * mask.scores[0].sign(), atol=1e-5)


def test_the_descent_brings_the_multiplications_to_the_budget(learning):
    model, budget = learning
    x, y = images(8, side=14), torch.arange(8) % 5
    rule = Descent(model, budget, 10)
    optimizer = torch.optim.SGD(trainable(model), lr=0.1)
    for _ in range(10):
        with hold_masks(model):
            nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        rule.step()
    assert float(budget.used(model).detach()) == pytest.approx(budget.keep, rel=1e-4)


def test_a_copy_has_masks_of_its_own(learning):
    model, _ = learning
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for mask in masks(twin).values():
            mask.scores.zero_()
    assert all(mask.scores.any() for mask in masks(model).values())
    freeze_masks(twin)
    bake_masks(twin)
    assert masks(model)
    assert not masks(twin)


def test_a_state_travels_to_another_model_learning_and_frozen(learning):
    model, budget = learning
    other = small_resnet()
    attach_masks(other, budget, RANDOM)
    attach_masks(third := small_resnet(), budget, HARP)
    with torch.no_grad():
        for mask in masks(model).values():
            mask.scores.normal_()
    third.load_state_dict(model.state_dict())
    assert all(torch.equal(m.scores, masks(third)[n].scores) for n, m in masks(model).items())
    freeze_masks(model)
    third.load_state_dict(model.state_dict())
    x = images(side=14)
    assert torch.equal(model.eval()(x), third.eval()(x))


def test_each_group_is_in_the_state_once(learning):
    model, budget = learning
    scores = [name for name in model.state_dict() if name.endswith("scores")]
    assert len(scores) == len(budget.sites)


def test_baking_brings_back_the_plain_network_with_zero_columns(learning):
    model, _ = learning
    plain = small_resnet()
    freeze_masks(model)
    x = images(side=14)
    with torch.no_grad():
        frozen = model.eval()(x)
        bake_masks(model).requires_grad_(False)
        assert torch.equal(model(x), frozen)
    assert [(n, t.shape) for n, t in model.state_dict().items()] == [
        (n, t.shape) for n, t in plain.state_dict().items()
    ]
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]


def test_frozen_masks_come_back_by_group(learning):
    model, budget = learning
    freeze_masks(model)
    chosen = {name: mask.current().clone() for name, mask in masks(model).items()}
    x = images(side=14)
    masked = model.eval()(x)
    bake_masks(model)
    attach_frozen_masks(model, chosen, budget)
    assert torch.equal(model(x), masked)
    bake_masks(model)
    with pytest.raises(ValueError, match="the masks are of the groups"):
        attach_frozen_masks(model, {"conv1": chosen["conv1"]}, budget)


# widths


def test_widths_build_the_small_network_without_the_large_ones_weights():
    taken = take_through(small_resnet(), images(side=14), 0.4)
    fresh = resize(build_model("resnet_small", shape=(3, 14, 14), classes=5), widths(taken.network))
    fresh.load_state_dict(taken.network.state_dict())
    assert torch.equal(fresh.eval()(images(side=14)), taken.shrunk)


@pytest.mark.parametrize("wrong", [0, 17, -1, "8", 1.5, True])
def test_widths_that_are_not_those_of_a_smaller_network_are_refused(wrong):
    model = build_model("resnet_small", shape=(3, 14, 14), classes=5)
    target = widths(model)
    target["conv1"]["out_channels"] = wrong
    with pytest.raises(ValueError, match=r"conv1.out_channels"):
        resize(model, target)
