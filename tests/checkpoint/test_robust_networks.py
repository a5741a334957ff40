"""The robust networks that people start from, in the layout of their authors: from checkpoint to a pruned network."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harp.checkpoint import load_weights
from harp.models import build_model
from harp.pruning import LWM, attach_masks, bake_masks, channel_budget, freeze_masks, weight_budget

sys.path.insert(0, str(Path(__file__).parent))
import robust_networks

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_state(model: nn.Module) -> dict[str, Tensor]:
    """Values that no fresh network has; the normalisation stays."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, tensor in model.state_dict().items():
        drawn = torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01
        state[name] = tensor.clone() if name.rpartition(".")[2] in ("mean", "std") else drawn.to(tensor.dtype)
    return state


def below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def is_pruned_to(model: nn.Module, keep: float) -> bool:
    """Mask, freeze and bake; whether exactly so many weights are left."""
    budget = weight_budget(model, keep=keep)
    bake_masks(freeze_masks(attach_masks(model, budget, LWM)))
    parameters = dict(model.named_parameters())
    return sum(int(parameters[site].count_nonzero()) for site in budget.sites) == budget.limit


def preact() -> nn.Module:
    return robust_networks.PreActResNet18()


def preact_relu() -> nn.Module:
    return robust_networks.PreActResNet18(activation=nn.ReLU)


def wide() -> nn.Module:
    """A WRN-10-2: the blocks, the names and the padding of a WRN-28-10."""
    return robust_networks.WideResNet(depth=10, width=2)


LAYOUTS = {
    "plain, as DeepMind published": lambda state: state,
    "DataParallel": lambda state: {"state_dict": below("module.", state), "epoch": 400},
    "after a layer that does nothing": lambda state: {"model_state_dict": below("module.0.", state), "epoch": 400},
    "the averaged network alone": lambda state: {"ema_model_state_dict": below("module.", state)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("make", [preact, preact_relu, wide])
def test_the_deepmind_family_with_its_own_normalisation_inside(make, layout, tmp_path):
    source, model = make(), make()
    state = random_state(source)
    source.load_state_dict(state)
    torch.save(LAYOUTS[layout](state), tmp_path / "c.pt")
    load_weights(model, tmp_path / "c.pt").eval()
    assert torch.equal(model(IMAGES), source.eval()(IMAGES))
    assert torch.equal(model.get_buffer("mean"), source.get_buffer("mean"))
    assert is_pruned_to(model, 0.05)


@pytest.mark.parametrize("make", [preact, wide])
def test_the_deepmind_family_loses_half_of_its_multiplications(make):
    budget = channel_budget(make().eval(), IMAGES[:1], keep=0.5)
    assert all(not held.cause or "written" not in held.cause for held in budget.coupling.stuck)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "width"), [(28, 10), (34, 10)])
def test_the_widths_and_depths_that_are_published(depth, width, tmp_path):
    model = robust_networks.WideResNet(depth, width)
    state = random_state(model)
    torch.save({"model_state_dict": below("module.0.", state)}, tmp_path / "c.pt")
    load_weights(model, tmp_path / "c.pt")
    assert torch.equal(model.logits.weight, state["logits.weight"])
    assert is_pruned_to(model, 0.01)


def salman(state: Mapping[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, object]:
    """As the robustness library saves: the network, the same once more inside its attacker, a normalisation of each."""
    pairs = {
        f"{name}.new_{key}": t
        for name in ("normalizer", "attacker.normalize")
        for key, t in (("mean", mean), ("std", std))
    }
    content = {**pairs, **below("model.", state), **below("attacker.model.", state)}
    return {
        "model": below("module.", content),
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 90,
        "amp": None,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("normalised", [True, False])
def test_salmans_imagenet_networks_and_the_normalisation_beside_them(dtype, normalised, tmp_path, caplog):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    bare = build_model("tv:resnet18", shape=(3, 32, 32), classes=10)
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in random_state(bare).items()}
    torch.save(salman(state, mean, std), tmp_path / "resnet18_linf_eps4.0.ckpt")
    model = build_model("tv:resnet18", shape=(3, 32, 32), classes=10, mean_std=IMAGENET if normalised else None)
    if not normalised:
        with pytest.raises(ValueError, match=r"--task\.mean 0\.485 0\.456 0\.406 --task\.std 0\.229 0\.224 0\.225"):
            load_weights(model, tmp_path / "resnet18_linf_eps4.0.ckpt")
        return
    load_weights(model, tmp_path / "resnet18_linf_eps4.0.ckpt").eval()
    assert "networks that fit" not in caplog.text  # the attacker's is the same one
    bare.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in state.items()})
    assert torch.allclose(model(IMAGES), bare.eval()((IMAGES - mean) / std), rtol=1e-4, atol=1e-6)
    assert is_pruned_to(model, 0.05)


def test_a_network_behind_robustbench_normalisation(tmp_path):
    """nn.Sequential(normalize=…, model=…), its buffers of shape (1, 3, 1, 1)."""
    timm = pytest.importorskip("timm")
    assert timm.is_model("test_vit")
    bare = build_model("timm:test_vit", shape=(3, 160, 160), classes=10)
    state = random_state(bare)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    torch.save({"normalize.mean": mean, "normalize.std": std, **below("model.", state)}, tmp_path / "c.pt")
    model = build_model("timm:test_vit", shape=(3, 160, 160), classes=10, mean_std=((0.5,) * 3, (0.5,) * 3))
    load_weights(model, tmp_path / "c.pt")
    assert model.get_buffer("normalize.mean").flatten().tolist() == pytest.approx(IMAGENET[0])
    assert torch.equal(model.get_parameter("model.head.weight"), state["head.weight"])
    assert is_pruned_to(model, 0.05)
