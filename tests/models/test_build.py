"""Networks by name, the user's own, and normalisation as the first layer."""

import sys

import pytest
import torch

from harp.models import MODELS, Normalize, Normalized, build_model

MEAN_STD = ((0.5, 0.4, 0.3), (0.2, 0.1, 0.4))
SHAPE = (3, 32, 32)


@pytest.mark.parametrize("name", MODELS)
def test_normalisation_is_a_layer_that_adds_two_names_and_changes_no_other(name):
    plain = build_model(name, shape=SHAPE, classes=4).eval()
    normalised = build_model(name, shape=SHAPE, classes=4, mean_std=MEAN_STD).eval()
    added = normalised.state_dict().keys() - plain.state_dict().keys()
    assert added == {"normalize.mean", "normalize.std"}
    missing, unexpected = normalised.load_state_dict(plain.state_dict(), strict=False)
    assert (set(missing), unexpected) == (added, [])
    x = torch.rand(2, *SHAPE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in MEAN_STD)
    torch.testing.assert_close(normalised(x), plain((x - mean) / std))


def test_a_foreign_network_is_wrapped_behind_normalisation():
    model = build_model("torchvision:mobilenet_v2", shape=SHAPE, classes=4, mean_std=MEAN_STD)
    assert isinstance(model, Normalized)
    assert model.eval()(torch.rand(1, *SHAPE)).shape == (1, 4)
    assert "model.features.0.0.weight" in model.state_dict()


@pytest.mark.parametrize(
    ("mean_std", "message"),
    [
        (((0.5,), (0.2,)), "expected 3 values each"),
        (((0.5,) * 3, (0.2,) * 2), "one value of each for every channel"),
        (((0.5,) * 3, (0.2, 0.0, 0.2)), "values above 0"),
    ],
)
def test_impossible_normalisations_are_refused(mean_std, message):
    with pytest.raises(ValueError, match=message):
        build_model("vgg_small", shape=SHAPE, classes=10, mean_std=mean_std)


def test_normalisation_says_what_it_does():
    assert repr(Normalize((0.5,), (0.25,))) == "Normalize(mean=[0.5], std=[0.25])"


@pytest.mark.parametrize("name", ["torchvision:resnet18", "tv:resnet18", "timm:resnet18"])
def test_networks_of_libraries_have_our_classes_and_no_downloaded_weights(name):
    assert build_model(name, shape=SHAPE, classes=7)(torch.rand(2, *SHAPE)).shape == (2, 7)


def test_timms_networks_take_as_many_channels_as_the_images_have():
    assert build_model("timm:resnet18", shape=(1, 32, 32), classes=3)(torch.rand(2, 1, 32, 32)).shape == (2, 3)


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"name='timm:resnet18' needs timm, which is not installed: pip install timm"):
        build_model("timm:resnet18", shape=SHAPE, classes=7)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet_smal", "resnet_small"),
        ("torchvision:resnet19", "resnet18"),
        ("torchvision:vgg16bn", "vgg16_bn"),
        ("timm:resnet19", "resnet18"),
    ],
)
def test_an_unknown_name_proposes_its_neighbours(name, nearest):
    with pytest.raises(ValueError, match=f"name='{name}'.*did you mean.*{nearest}"):
        build_model(name, shape=SHAPE, classes=10)


def test_a_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match=r"known are .*vgg_small.*resnet50"):
        build_model("zzz", shape=SHAPE, classes=10)


OWN_MODELS = """
from torch import nn

def sized(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

def counted(num_classes, width=3):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_classes))

def bare():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 5))

class Module(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        return self.head(x.mean((2, 3)))

def fixed():
    return Module(7)

class Auxiliary(Module):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits

def demanding(width, classes):
    return Module(classes)

def number():
    return 3

something = 5
"""


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    (tmp_path / "own_models_for_test.py").write_text(OWN_MODELS)
    monkeypatch.chdir(tmp_path)
    yield "own_models_for_test"
    sys.modules.pop("own_models_for_test", None)


@pytest.mark.parametrize("factory", ["sized", "counted", "bare"])
def test_a_factory_gets_the_arguments_it_names(own_models, factory):
    path = list(sys.path)
    model = build_model(f"{own_models}:{factory}", shape=SHAPE, classes=5)
    assert model(torch.rand(2, *SHAPE)).shape == (2, 5)
    assert sys.path == path


def test_a_class_is_a_factory(own_models):
    assert build_model(f"{own_models}:Module", shape=SHAPE, classes=5).get_parameter("head.bias").shape == (5,)


@pytest.mark.parametrize("name", ["no_such_module:f", "own_models_for_test:missing", ":f", "torch:", "x.:f", ".x:f"])
@pytest.mark.usefixtures("own_models")
def test_a_path_that_leads_nowhere_is_named(name):
    with pytest.raises(ValueError, match=rf"name='{name}'.*Expected package.module:factory"):
        build_model(name, shape=SHAPE, classes=5)


@pytest.mark.parametrize("factory", ["number", "something"])
def test_a_factory_must_make_a_module(own_models, factory):
    with pytest.raises(TypeError, match=f"name='{own_models}:{factory}'.*int"):
        build_model(f"{own_models}:{factory}", shape=SHAPE, classes=5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_models_for_test:fixed", r"\(2, 7\) in eval mode: expected the logits alone, \(2, 5\), for 5 classes"),
        ("own_models_for_test:Auxiliary", "answers two images with tuple in training mode"),
        ("torchvision:vit_b_32", r"cannot take images of shape \(3, 32, 32\).*expected 224.*--task.image-size"),
    ],
)
@pytest.mark.usefixtures("own_models")
def test_a_network_that_does_not_fit_the_data_says_so_before_any_work(name, message):
    with pytest.raises(ValueError, match=f"(?i)name='{name}'.*{message}"):
        build_model(name, shape=SHAPE, classes=5)


def test_a_factory_with_parameters_of_its_own_is_told_to_give_defaults(own_models):
    with pytest.raises(TypeError, match=r"name='own_models_for_test:demanding'.*'width'.*give all others a default"):
        build_model(f"{own_models}:demanding", shape=SHAPE, classes=5)


def test_trying_a_network_out_leaves_no_trace(own_models):
    model = build_model(f"{own_models}:bare", shape=SHAPE, classes=5)
    assert all(module.training for module in model.modules())
    assert model.get_buffer("2.num_batches_tracked") == 0
    assert torch.equal(model.get_buffer("2.running_var"), torch.ones(3))
