"""Networks that harp did not write: attach, learn a step, freeze, bake, and get back what came, with zeros.

Each network is the smallest of its kind that still has the parts that matter.
"""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn

from harp.pruning import HARP, Budget, attach_masks, bake_masks, freeze_masks, hold_masks, masks, weight_budget


class Grouped(nn.Module):
    """Grouped, depth-wise, transposed, 1-d and 3-d convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.up = nn.ConvTranspose2d(16, 6, 2, stride=2, groups=2)
        self.volume = nn.Conv3d(6, 4, (1, 3, 3))
        self.line = nn.Conv1d(4, 5, 3)

    def forward(self, x):
        x = torch.relu(self.depthwise(self.grouped(self.stem(x))))
        x = self.volume(torch.relu(self.up(x))[:, :, None]).flatten(2)
        return self.line(x).mean(2)


class Reused(nn.Module):
    """One module called twice and registered under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.alias = self.again
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.alias(torch.relu(self.again(self.first(x)))).mean((2, 3)))


class CrossAttention(nn.Module):
    """Keys and values of other widths than the queries: three projection weights instead of one."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.attention = nn.MultiheadAttention(16, 2, kdim=6, vdim=10, batch_first=True, add_bias_kv=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens[..., :6], tokens[..., 6:])[0].mean(1))


class Encoder(nn.Module):
    """torch's own transformer, whose eval mode takes a fused path past the modules' forwards."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def small_vit() -> nn.Module:
    made = torchvision.models.VisionTransformer
    model = made(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=5)
    nn.init.normal_(model.heads.head.weight)  # zeros, which no mask can change, when fresh
    return model


def small_vgg() -> nn.Module:
    features = torchvision.models.vgg.make_layers([8, "M", 16, "M", 16, 16, "M"], batch_norm=True)
    model = torchvision.models.VGG(features, num_classes=5)
    model.classifier = nn.Sequential(nn.Linear(16 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 5))
    return model


def small_resnet(block: type[nn.Module], **settings) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=5, **settings)


BLOCKS = torchvision.models.resnet
STRANGERS = {
    "grouped": Grouped,
    "reused": Reused,
    "cross attention": CrossAttention,
    "torch's encoder": Encoder,
    "torchvision basic resnet": small_resnet(BLOCKS.BasicBlock),
    "torchvision bottleneck resnext": small_resnet(BLOCKS.Bottleneck, groups=4, width_per_group=8),
    "torchvision mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.25),
    "torchvision vgg": small_vgg,
    "torchvision vit": small_vit,
    "timm convnext": lambda: timm.create_model(
        "convnext_atto", num_classes=5, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), drop_path_rate=0.0
    ),
    "timm vit": lambda: timm.create_model(
        "vit_tiny_patch16_224", num_classes=5, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2
    ),
}
FULL_SIZE = {
    "resnet18": (torchvision.models.resnet18, 32),
    "resnet50": (torchvision.models.resnet50, 32),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 32),
    "vgg16": (torchvision.models.vgg16, 32),
    "vit_b_16": (torchvision.models.vit_b_16, 224),
    "resnet10t": (lambda: timm.create_model("resnet10t", zero_init_last=False), 32),
}
HEAVY = {"vgg16", "vit_b_16"}


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(1))


def learn_a_step(model: nn.Module, budget: Budget, x: torch.Tensor) -> None:
    with hold_masks(model):
        (model(x).square().mean() + 0.01 * budget.excess(model)).backward()
    for name, mask in masks(model).items():
        assert mask.logit.grad.isfinite(), name
        assert mask.scores.grad.isfinite().all(), name
        assert mask.scores.grad.count_nonzero() > 0, name
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01).step()


def take_through(model: nn.Module, x: torch.Tensor, keep: float) -> nn.Module:
    types = {name: type(module) for name, module in model.named_modules()}
    shapes = [(name, tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()]
    budget = weight_budget(model, keep=keep)
    attach_masks(model, budget, HARP)
    learn_a_step(model, budget, x)
    freeze_masks(model).eval()
    kept = {name: mask.current() for name, mask in masks(model).items()}
    assert sum(int(mask.sum()) for mask in kept.values()) == round(keep * budget.total)
    with torch.no_grad():
        frozen = model(x)
        # Even under no_grad, torch's matmul takes another kernel for a weight that requires gradients.
        bake_masks(model).requires_grad_(False)
        assert torch.equal(model(x), frozen)
    assert {name: type(module) for name, module in model.named_modules()} == types
    assert [(name, tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()] == shapes
    for name, mask in kept.items():
        assert model.get_parameter(name)[~mask].count_nonzero() == 0, name
    return model


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strange_network_is_pruned_and_comes_back_plain(name):
    torch.manual_seed(0)
    model = STRANGERS[name]()
    fresh = copy.deepcopy(model)
    take_through(model, images(), keep=0.4)
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval().requires_grad_(False)(images()), model(images()))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in HEAVY else ()) for n in FULL_SIZE])
def test_networks_of_full_size(name):
    torch.manual_seed(0)
    build, size = FULL_SIZE[name]
    model = build()
    with torch.no_grad():
        for name in weight_budget(model, keep=0.5).sites:
            weight = model.get_parameter(name)
            if not weight.count_nonzero():  # a head that starts at zero teaches the layers below it nothing
                weight.normal_(std=0.01)
    take_through(model, images(size)[:2], keep=0.01)


def test_every_projection_of_an_attention_is_pruned():
    assert {
        name.removeprefix("encoder.layers.0.") for name in weight_budget(Encoder(), keep=0.1).sites if "s.0." in name
    } == {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }
    assert [name for name in weight_budget(CrossAttention(), keep=0.1).sites if "attention" in name] == [
        "attention.q_proj_weight",
        "attention.k_proj_weight",
        "attention.v_proj_weight",
        "attention.out_proj.weight",
    ]


@pytest.mark.parametrize(
    ("build", "kernel"),
    [(Encoder, "_transformer_encoder_layer_fwd"), (small_vit, "_native_multi_head_attention"), (CrossAttention, None)],
)
def test_the_fused_path_of_attention_in_eval_mode_respects_the_masks(build, kernel, monkeypatch):
    """In eval mode without gradients torch calls one kernel with the weights; with gradients it runs the modules."""
    torch.manual_seed(0)
    model = build()
    attach_masks(model, weight_budget(model, keep=0.1))
    freeze_masks(model).eval()
    slow = model(images())
    fused = []
    if kernel is not None:
        original = getattr(torch, kernel)
        monkeypatch.setattr(torch, kernel, lambda *given, **named: fused.append(kernel) or original(*given, **named))
    with torch.no_grad():
        fast = model(images())
        assert len(fused) == (0 if kernel is None else 2)
        assert torch.allclose(slow, fast, atol=1e-5)
        for mask in masks(model).values():
            mask.mask.fill_(True)
        assert not torch.allclose(model(images()), fast, atol=1e-3)


def test_partly_excluded_projections_come_back_in_their_order():
    model = CrossAttention()
    order = list(model.state_dict())
    budget = weight_budget(model, keep=0.5, exclude=["*.q_proj_weight"])
    bake_masks(freeze_masks(attach_masks(model, budget)))
    assert list(model.state_dict()) == order


def test_a_module_used_twice_has_one_mask_and_the_gradients_of_both_uses():
    torch.manual_seed(0)
    model = Reused()
    attach_masks(model, weight_budget(model, keep=0.5))
    assert list(masks(model)) == ["first.weight", "again.weight", "head.weight"]
    x = images()
    model(x).sum().backward()
    mask = masks(model)["again.weight"]
    weight = (model.again.parametrizations.weight.original * mask.current()).detach().requires_grad_(True)
    bias = model.again.bias
    hidden = torch.relu(nn.functional.conv2d(model.first(x), weight, bias, padding=1))
    model.head(nn.functional.conv2d(hidden, weight, bias, padding=1).mean((2, 3))).sum().backward()
    dense = model.again.parametrizations.weight.original
    assert torch.allclose(mask.scores.grad, weight.grad * dense * mask.scores.sign(), rtol=1e-3, atol=1e-5)
