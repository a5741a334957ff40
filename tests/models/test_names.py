"""Checkpoints of other code bases fit our networks."""

import logging
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harp.models import build_model, match_names
from harp.models.names import fits_in, take

MEAN_STD = ((0.5, 0.4, 0.3), (0.2, 0.1, 0.4))


def some_model(mean_std=None) -> nn.Module:
    return build_model("resnet_small", shape=(3, 8, 8), classes=4, mean_std=mean_std)


def some_state() -> dict[str, Tensor]:
    """A checkpoint with values unlike those of a fresh model, batch counts included."""
    return {name: torch.rand(t.shape).to(t.dtype) + 2 for name, t in some_model().state_dict().items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@settings(deadline=None, max_examples=20)
@given(prefixes=st.lists(st.sampled_from(["module.", "model.", "net.", "_orig_mod."]), max_size=3))
def test_prefixes_are_stripped(prefixes):
    state = some_state()
    assert_same(match_names({"".join(prefixes) + name: t for name, t in state.items()}, some_model()), state)


def test_kuangliu_names_are_torchvisions():
    state = some_state()
    theirs = {
        "module." + name.replace("downsample", "shortcut").replace("fc.", "linear."): t for name, t in state.items()
    }
    assert "module.layer2.0.shortcut.0.weight" in theirs
    assert "module.linear.bias" in theirs
    assert_same(match_names(theirs, some_model()), state)


def test_a_checkpoint_of_a_bare_network_fits_a_wrapped_one():
    wrapped = build_model("torchvision:squeezenet1_1", shape=(3, 32, 32), classes=4, mean_std=MEAN_STD)
    bare = build_model("torchvision:squeezenet1_1", shape=(3, 32, 32), classes=4)
    wrapped.load_state_dict(match_names(bare.state_dict(), wrapped), strict=True)
    assert torch.equal(wrapped.get_parameter("model.features.0.weight"), bare.get_parameter("features.0.weight"))


def test_the_models_own_normalisation_stays_where_the_checkpoint_has_none():
    model = some_model(MEAN_STD)
    model.load_state_dict(match_names(some_state(), model), strict=True)
    assert model.get_buffer("normalize.mean").flatten().tolist() == pytest.approx(MEAN_STD[0])


def test_the_checkpoints_normalisation_wins_where_it_has_one():
    state = {**some_state(), "normalize.mean": torch.zeros(3, 1, 1), "normalize.std": torch.ones(3, 1, 1)}
    assert_same(match_names(state, some_model(MEAN_STD)), state)


def test_batch_counts_may_be_missing():
    state = {name: t for name, t in some_state().items() if not name.endswith("num_batches_tracked")}
    model = some_model()
    found = match_names(state, model)
    model.load_state_dict(found, strict=True)
    assert found["bn1.num_batches_tracked"] == 0
    assert torch.equal(found["bn1.weight"], state["bn1.weight"])


def test_every_difference_is_listed():
    state = some_state()
    del state["fc.bias"]
    state["extra.weight"] = torch.zeros(2, 3)
    state["conv1.weight"] = torch.zeros(16, 1, 3, 3)
    state["module.fc.weight"] = state["fc.weight"]
    with pytest.raises(ValueError, match="does not fit ResNet") as caught:
        match_names(state, some_model())
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert sorted(lines) == [
        "missing: fc.bias (4,)",
        "unexpected: extra.weight (2, 3)",
        "unexpected: module.fc.weight (4, 64)",
        "wrong shape: conv1.weight (16, 1, 3, 3), the model has (16, 3, 3, 3)",
    ]


def test_normalisation_without_a_layer_for_it_is_an_error():
    with pytest.raises(ValueError, match=re.escape("unexpected: normalize.mean (3, 1, 1)")):
        match_names({**some_state(), "normalize.mean": torch.zeros(3, 1, 1)}, some_model())


@pytest.mark.parametrize("prefix", ["", "module.", "state.net.", "1."])
def test_two_layers_that_differ_only_by_an_alias_are_told_apart_below_any_prefix(prefix):
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), "linear": nn.Linear(2, 2)})
    state = {name: torch.rand(t.shape) for name, t in model.state_dict().items()}
    assert_same(match_names({prefix + name: t for name, t in state.items()}, model), state)


def test_an_alias_of_a_layer_that_is_there_is_doubled():
    state = some_state()
    with pytest.raises(ValueError, match=r"doubled: linear\.bias is another fc\.bias"):
        match_names({**state, "linear.bias": state["fc.bias"]}, some_model())


def test_a_part_of_the_network_may_have_been_wrapped():
    """As the ImageNet example of PyTorch does: only the features run on several devices."""
    model = build_model("torchvision:squeezenet1_1", shape=(3, 32, 32), classes=4)
    state = {name: torch.rand(t.shape) for name, t in model.state_dict().items()}
    theirs = {name.replace("features.", "features.module."): t for name, t in state.items()}
    assert_same(match_names(theirs, model), state)


def test_the_average_of_swa_utils_is_the_network():
    averaged = torch.optim.swa_utils.AveragedModel(some_model())
    assert_same(match_names(averaged.state_dict(), some_model()), dict(averaged.module.state_dict()))


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
@pytest.mark.parametrize(("mean", "std"), [("0.mean", "0.std"), ("normalizer.new_mean", "normalizer.new_std")])
def test_the_normalisation_of_a_wrapper_is_taken_and_said(mean, std, shape, caplog):
    """nn.Sequential(normalise, network) under DataParallel, and the robustness library's attacked model."""
    state = some_state()
    inside = "1." if mean[0] == "0" else "model."
    theirs = {f"module.{mean}": torch.full(shape, 0.25), f"module.{std}": torch.full(shape, 0.5)}
    theirs |= {f"module.{inside}{name}": t for name, t in state.items()}
    found = match_names(theirs, some_model(MEAN_STD))
    expected = {"normalize.mean": torch.full((3, 1, 1), 0.25), "normalize.std": torch.full((3, 1, 1), 0.5)}
    assert_same(found, {**state, **expected})
    assert "normalisation is taken: mean 0.25 0.25 0.25, std 0.5 0.5 0.5" in caplog.text


def test_without_a_layer_for_it_the_flags_are_named():
    theirs = {f"module.1.{name}": t for name, t in some_state().items()}
    theirs |= {"module.0.mean": torch.tensor([0.5, 0.25, 0.5]), "module.0.std": torch.tensor([0.25, 0.5, 1.0])}
    with pytest.raises(ValueError, match=r"0\.mean .*--task\.mean 0\.5 0\.25 0\.5 --task\.std 0\.25 0\.5 1"):
        match_names(theirs, some_model())


def test_a_normalisation_that_changes_nothing_needs_no_layer():
    state = some_state()
    theirs = {**state, "normalize.mean": torch.zeros(3), "normalize.std": torch.ones(3)}
    assert_same(match_names(theirs, some_model()), state)


def test_two_normalisations_that_differ_are_refused():
    theirs = {f"1.{name}": t for name, t in some_state().items()}
    for place, value in (("0", 0.5), ("attacker", 0.25)):
        theirs |= {f"{place}.mean": torch.full((3,), value), f"{place}.std": torch.ones(3)}
    with pytest.raises(ValueError, match=r"several normalisations: 0\.mean and attacker\.mean differ"):
        match_names(theirs, some_model(MEAN_STD))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_head_of_other_classes_begins_anew_when_that_is_wanted(prefix, caplog):
    thousand = build_model("resnet_small", shape=(3, 8, 8), classes=1000)
    state = {f"{prefix}{name}": torch.rand(t.shape) + 2 for name, t in thousand.state_dict().items()}
    model = some_model()
    head = model.get_parameter("fc.weight").clone()
    (fit,) = fits_in(state, model, new_head=True)
    found = take(state, model, fit)
    assert torch.equal(found["fc.weight"], head)
    assert torch.equal(found["conv1.weight"], state[f"{prefix}conv1.weight"])
    assert "the head fc.weight begins anew: 1000 outputs in the checkpoint, 4 in the model" in caplog.text
    with pytest.raises(ValueError, match=r"wrong shape: .*fc\.weight \(1000, 64\)"):
        match_names(state, model)


@pytest.mark.parametrize("layer", ["conv1.weight", "fc.weight"])
def test_only_the_outputs_of_the_last_layer_may_differ(layer):
    state = some_state()
    state[layer] = state[layer].repeat_interleave(2, dim=1)
    (fit,) = fits_in(state, some_model(), new_head=True)
    assert [problem.partition(":")[0] for problem in fit.problems] == ["wrong shape"]


def test_a_head_of_the_same_classes_is_taken_even_then():
    state = some_state()
    (fit,) = fits_in(state, some_model(), new_head=True)
    assert_same(take(state, some_model(), fit), state)


def tied() -> nn.Module:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    return model


@pytest.mark.parametrize("kept", ["a.weight", "b.weight"])
def test_of_tied_weights_one_is_enough(kept):
    state = {kept: torch.rand(3, 3), "a.bias": torch.rand(3)}
    found = match_names(state, tied())
    assert torch.equal(found["a.weight"], state[kept])
    assert torch.equal(found["b.weight"], state[kept])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_two_values_for_one_tensor_are_refused(prefix):
    state = {name: torch.rand(t.shape) for name, t in tied().state_dict().items()}
    with pytest.raises(ValueError, match=r"untied: a\.weight and b\.weight are one tensor in the model, and two"):
        match_names({prefix + name: t for name, t in state.items()}, tied())


def test_pruning_scores_beside_dense_weights_are_ignored_and_said_so(caplog):
    state = some_state()
    theirs = {**state, "conv1.popup_scores": torch.rand(16, 3, 3, 3), "conv1.k_score": torch.tensor(1.0)}
    with caplog.at_level(logging.WARNING):
        assert_same(match_names(theirs, some_model()), state)
    assert "conv1.popup_scores" in caplog.text
