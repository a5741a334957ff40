"""Checkpoints made elsewhere: tensors are read out of whatever lies around them, and no code of theirs runs."""

import argparse
import collections
import math
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from harp.checkpoint import load_weights, save_tensors
from harp.models import Normalize, Normalized


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items()}


def shuffled(model: nn.Module) -> dict[str, Tensor]:
    """A state that differs from the model's own everywhere."""
    return {name: t + 1 for name, t in model.state_dict().items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"net": {f"module.{name}": t for name, t in state.items()}, "acc": 71.2},
        lambda state: {"model": {"state_dict": {f"module.model.{name}": t for name, t in state.items()}}},
        lambda state: {f"module.{name}": t.half() for name, t in state.items()},
        lambda state: {"epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "model_state": state},
        lambda state: {"model_ema": state, "loss": torch.tensor(0.3)},
        lambda state: {"ema": {"module": state}},
        lambda state: {"params": state},
        lambda state: [state, 3],
        lambda state: {"state_dict": {f"backbone.net.{name}": t for name, t in state.items()}},
    ],
    ids=[
        *("plain", "wrapped", "DataParallel", "wrapped twice", "half precision", "model_state", "model_ema", "ema"),
        *("params", "list", "module of a larger program"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_checkpoint_fits_whatever_it_is_wrapped_in(wrap, zipped, tmp_path):
    model = network()
    expected = shuffled(model)
    torch.save(wrap(expected), tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    load_weights(model, tmp_path / "c.pt")
    for name, t in model.state_dict().items():
        assert torch.allclose(t.float(), expected[name].float(), atol=1e-2), name


def test_safetensors_fit_as_well(tmp_path):
    model = network()
    expected = shuffled(model)
    save_tensors(tmp_path / "c.safetensors", expected)
    load_weights(model, tmp_path / "c.safetensors")
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


class Evil:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(save, tmp_path):
    marker = tmp_path / "executed"
    save({"state_dict": Evil(marker)}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt cannot be read as plain tensors.*never unpickles") as caught:
        load_weights(network(), tmp_path / "c.pt")
    assert not marker.exists()
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(network(), tmp_path / "c.pt")
    with pytest.raises(
        ValueError, match=r"holds no state dict.*but a torch\.nn\.modules\.container\.Sequential.*model\.state_dict"
    ):
        load_weights(network(), tmp_path / "c.pt")


def test_a_compressed_archive_is_refused_before_it_is_inflated(tmp_path):
    torch.save(network().state_dict(), tmp_path / "c.pt")
    with (
        zipfile.ZipFile(tmp_path / "c.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name) + bytes(10**6))
    with pytest.raises(ValueError, match=r"bomb\.pt cannot be read"):
        load_weights(network(), tmp_path / "bomb.pt")


def test_a_checkpoint_that_wraps_itself_is_refused(tmp_path):
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_weights(network(), tmp_path / "c.pt")


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"a": "text"}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_weights(network(), tmp_path / "c.pt")


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: t for key, t in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {**s, "3.weight": torch.zeros(3, 16), "3.bias": torch.zeros(3)}, r"3\.weight.*\(3, 16\).*\(2, 16\)"),
        (lambda s: without(s, "0.weight"), r"missing.*0\.weight"),
        (lambda s: {**s, "9.weight": torch.zeros(1)}, r"unexpected.*9\.weight"),
        (lambda s: {**s, "0.weight": s["0.weight"] * math.nan}, r"not finite in \['0\.weight'\]"),
        pytest.param(
            lambda s: {**s, "3.weight": s["3.weight"].to_sparse()},
            r"not plain numbers in \['3\.weight'\]",
            marks=pytest.mark.filterwarnings("ignore:.*[Ss]parse"),
        ),
        (lambda s: {**s, "3.weight": s["3.weight"].to(torch.complex64)}, r"not plain numbers in \['3\.weight'\]"),
    ],
    ids=["classes", "missing", "unexpected", "NaN", "sparse", "complex"],
)
def test_a_checkpoint_that_does_not_fit_lists_its_keys_and_leaves_the_model_alone(change, said, tmp_path):
    model = network()
    before = copy_of(model)
    torch.save(change(shuffled(model)), tmp_path / "c.pt")
    with pytest.raises(ValueError, match=rf"(?s)c\.pt.*{said}"):
        load_weights(model, tmp_path / "c.pt")
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


# What lies beside the tensors


class Reducing:
    """Pickled as a call of any function."""

    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


BESIDE = {
    "Namespace": argparse.Namespace(lr=0.1, eps=8 / 255),
    "numpy scalars": {"best": np.float64(0.5), "epoch": np.int64(3)},
    "numpy array": np.arange(3.0),
    "defaultdict": collections.defaultdict(list, {"accuracy": [0.1, 0.5]}),
    "path": Path("runs"),
    "class": nn.CrossEntropyLoss,
    "module": nn.Sequential(nn.Linear(2, 2)),
}


OLD = {
    name: False for name in BESIDE if name not in ("class", "module")
}  # which files of before 1.6 mark in their own way


@pytest.mark.parametrize(("what", "zipped"), [*dict.fromkeys(BESIDE, True).items(), *OLD.items()])
def test_tensors_are_read_beside_whatever_is_no_tensor(what, zipped, tmp_path):
    model = network()
    expected = shuffled(model)
    content = {"args": BESIDE[what], "state_dict": expected}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    load_weights(model, tmp_path / "c.pt")
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_call_beside_the_tensors_is_not_made(zipped, tmp_path):
    """As an attacker would have it: the network works, and the user never knows."""
    model, marker = network(), tmp_path / "executed"
    evil = Reducing(subprocess.run, (["touch", str(marker)],))
    content = {"args": evil, "state_dict": shuffled(model)}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    assert evil.call[0](["true"]).returncode == 0  # the call itself would work
    load_weights(model, tmp_path / "c.pt")
    assert not marker.exists()


@pytest.mark.parametrize("state", [{"a": 1}, (1, 2), None])
def test_a_stand_in_takes_no_state_and_calls_nothing(state, tmp_path):
    """The state of an object may hold anything, an attribute named `items` too, and is dropped with it."""
    model, expected = network(), shuffled(network())
    thing = Reducing(argparse.Namespace, (), state) if state else Reducing(argparse.Namespace, ())
    torch.save({"thing": thing, "net": expected}, tmp_path / "c.pt")
    load_weights(model, tmp_path / "c.pt")
    assert torch.equal(model.get_parameter("3.bias"), expected["3.bias"])


def test_nothing_stays_registered_as_safe(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save({"args": argparse.Namespace(), "net": shuffled(network())}, tmp_path / "c.pt")
    load_weights(network(), tmp_path / "c.pt")
    assert set(torch.serialization.get_safe_globals()) == before


def test_what_cannot_be_read_is_named_with_two_lines_that_save_it_again(tmp_path):
    torch.save({"net": Reducing(__import__("os").getcwd, ())}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"it holds posix\.getcwd.*state = model\.state_dict\(\); torch\.save\(state"):
        load_weights(network(), tmp_path / "c.pt")


def test_a_file_without_a_state_dict_names_the_keys_that_it_has(tmp_path):
    torch.save({"epoch": 3, "weights": np.zeros(2)}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"but 'epoch' \(int\), 'weights' \(numpy\.\w+\.multiarray\._reconstruct\)"):
        load_weights(network(), tmp_path / "c.pt")


# Several networks in one file


def scaled(by: float) -> dict[str, Tensor]:
    return {name: t + by for name, t in network().state_dict().items()}


SEVERAL = [
    ({"state_dict": scaled(1), "state_dict_ema": scaled(2)}, "state_dict", "state_dict_ema"),
    ({"ema": scaled(2), "model": scaled(1)}, "model", "ema"),
    ({"last": scaled(2), "best": scaled(1)}, "best", "last"),
    (
        {
            "state_dict": {
                **{f"ema_net.{n}": t for n, t in scaled(2).items()},
                **{f"net.{n}": t for n, t in scaled(1).items()},
            }
        },
        "state_dict.net",
        "state_dict.ema_net",
    ),
]


@pytest.mark.parametrize(
    ("content", "first", "second"), SEVERAL, ids=lambda value: value if isinstance(value, str) else ""
)
def test_of_several_networks_it_is_said_which_is_taken_and_a_key_chooses(content, first, second, tmp_path, caplog):
    torch.save(content, tmp_path / "c.pt")
    bias = network().get_parameter("3.bias").detach()
    assert torch.equal(load_weights(network(), tmp_path / "c.pt").get_parameter("3.bias"), bias + 1)
    assert f"2 networks that fit, and {first} is taken; --weights-key takes another: {second}" in caplog.text
    caplog.clear()
    for number, key in enumerate((first, second), start=1):
        assert torch.equal(load_weights(network(), tmp_path / "c.pt", key=key).get_parameter("3.bias"), bias + number)
    assert caplog.text == ""


def test_a_key_that_is_not_there_lists_those_that_are(tmp_path):
    torch.save(SEVERAL[0][0], tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"key='ema' \(--weights-key\).*there are state_dict, state_dict_ema"):
        load_weights(network(), tmp_path / "c.pt", key="ema")


def test_one_network_written_twice_is_one(tmp_path, caplog):
    """As the robustness library's attacker holds the model that it attacks."""
    twice = {
        f"{place}.{name}": t for place in ("module.model", "module.attacker.model") for name, t in scaled(1).items()
    }
    torch.save({"model": twice}, tmp_path / "c.pt")
    load_weights(network(), tmp_path / "c.pt")
    assert caplog.text == ""


def test_of_networks_that_do_not_fit_the_nearest_is_explained(tmp_path):
    torch.save({"net": without(scaled(1), "3.bias"), "ema": without(scaled(1), "0.weight")}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"(?s)net, ema were found, and the nearest is 'net'.*missing: 3\.bias"):
        load_weights(network(), tmp_path / "c.pt")


def test_what_lies_beside_the_network_of_a_key_may_stay_there(tmp_path):
    beside = {**{f"net.{name}": t for name, t in scaled(1).items()}, "criterion.weight": torch.ones(2)}
    torch.save({"state_dict": beside}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"unexpected: criterion\.weight"):
        load_weights(network(), tmp_path / "c.pt")
    load_weights(network(), tmp_path / "c.pt", key="state_dict.net")


# Tied weights


def test_what_safetensors_leaves_out_of_tied_weights_comes_back(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    save_model(model, str(tmp_path / "c.safetensors"))
    untied = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    for target in (untied, nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})):
        load_weights(target, tmp_path / "c.safetensors")
        assert all(torch.equal(t, model.state_dict()[name]) for name, t in target.state_dict().items())


def test_a_normalisation_travels_from_the_checkpoint_into_the_model(tmp_path):
    inside = Normalized(Normalize((0.5,), (0.25,)), network())
    torch.save({"net": {f"module.{n}": t for n, t in inside.state_dict().items()}}, tmp_path / "c.pt")
    model = load_weights(Normalized(Normalize((0.0,), (1.0,)), network()), tmp_path / "c.pt")
    assert model.get_buffer("normalize.mean").item() == 0.5
