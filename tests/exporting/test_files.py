"""A file is compared with its model before it takes its place; what is wrong leaves nothing behind."""

import copy
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harp
import harp.runtime
from harp.exporting import Agreement, Exported, rebuild
from harp.runtime.format import read


@pytest.fixture
def model(pruned) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 96)
    return pruned(nn.Sequential(*layers, nn.ReLU(), nn.Linear(96, 4)), 0.1).eval().requires_grad_(False)


@pytest.fixture
def example() -> torch.Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def weights(path: Path) -> list[np.ndarray]:
    return [node.tensors["weight"] for node in read(path)[0].nodes if "weight" in node.tensors]


def test_the_file_holds_the_network_and_its_card(model, example, tmp_path):
    done = harp.export(model, example, tmp_path / "nets" / "net.harp", card={"name": "HARP 10 %"})
    graph, card = read(done.path)
    torch.testing.assert_close(rebuild(graph)(example), model(example))
    assert card == {"name": "HARP 10 %", "kept": done.kept, "total": done.total}
    assert [path.name for path in done.path.parent.iterdir()] == ["net.harp"]


def test_what_is_returned_is_exact(model, example, tmp_path):
    done = harp.export(model, example, str(tmp_path / "net.harp"))
    budget = harp.weight_budget(model, keep=0.1)
    assert (done.kept, done.total) == (budget.limit, budget.total)
    assert done.kept == sum(int(np.count_nonzero(weight)) for weight in weights(done.path))
    assert done.size_bytes == done.path.stat().st_size
    assert done.dense_bytes == 4 * sum(p.numel() for p in model.parameters())
    assert done.times_smaller == done.dense_bytes / done.size_bytes > 8
    assert done.agreement.images == 40
    assert done.agreement.changed == 0
    assert 0 < done.agreement.difference < 1e-5


def test_f16_halves_the_values_and_says_what_that_costs(model, example, tmp_path):
    whole = harp.export(model, example, tmp_path / "whole.harp")
    half = harp.export(model, example, tmp_path / "half.harp", values="f16")
    assert half.size_bytes < 0.8 * whole.size_bytes
    assert 1e-5 < half.agreement.difference < 1e-2
    found, expected = rebuild(read(half.path)[0])(example), model(example)
    assert half.agreement.difference == pytest.approx(
        float((found - expected).abs().max() / expected.abs().max()), abs=1e-6
    )
    for rounded, exact in zip(weights(half.path), weights(whole.path), strict=True):
        assert np.array_equal(rounded, exact.astype(np.float16))


def test_the_engine_has_the_last_word(model, example, tmp_path, monkeypatch):
    done = harp.export(model, example, tmp_path / "net.harp")
    assert done.agreement.by == "harp.runtime"
    (tmp_path / "net.harp").unlink()
    monkeypatch.setattr(
        harp.runtime, "load", lambda path, autotune: lambda x: 1.001 * model(torch.from_numpy(x)).numpy()
    )
    with pytest.raises(ValueError, match=r"in harp.runtime logits are off by at most 0\.001 of"):
        harp.export(model, example, tmp_path / "net.harp")
    assert not list(tmp_path.iterdir())


def test_without_an_engine_the_file_is_compared_in_numpy(model, example, tmp_path, monkeypatch):
    monkeypatch.setattr("harp.runtime.session._engine", None)
    done = harp.export(model, example, tmp_path / "net.harp")
    assert done.agreement.by == "harp.runtime"
    assert done.agreement.difference < 1e-5


def test_a_size_beside_the_dense_one_is_a_fraction_only_where_it_is_smaller():
    def said(size: int) -> str:
        return Exported(Path("net"), 1, 1, size, 10_000, Agreement(1, 0.0, 0, "harp.runtime")).compared

    assert said(100) == "1/100 of dense float32 (10,000 bytes)"
    assert said(10_030) == "as large as dense float32 (10,000 bytes)"
    assert said(12_500) == "1.25 times dense float32 (10,000 bytes)"


def test_f16_that_changes_logits_too_much_is_refused_with_the_amount(model, example, tmp_path):
    with pytest.raises(
        ValueError, match=r"values='f16' in PyTorch logits are off by at most 0\.000\d+ of .*tolerance=1e-05"
    ):
        harp.export(model, example, tmp_path / "net.harp", values="f16", tolerance=1e-5)
    assert not list(tmp_path.iterdir())


def test_eight_bits_are_smaller_than_halves_and_as_near_as_allowed(model, example, tmp_path):
    half = harp.export(model, example, tmp_path / "half.harp", values="f16")
    eight = harp.export(model, example, tmp_path / "eight.harp", values="int8")
    assert eight.size_bytes < half.size_bytes
    assert half.agreement.difference < eight.agreement.difference < 5e-2
    with pytest.raises(
        ValueError, match=r"values='int8' in PyTorch logits are off by at most 0\.0\d+ of .*tolerance=0\.0001"
    ):
        harp.export(model, example, tmp_path / "none.harp", values="int8", tolerance=1e-4)
    assert not (tmp_path / "none.harp").exists()


def test_a_c_file_is_compared_with_the_model_and_states_its_memory(model, example, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "")
    done = harp.export(model, example, tmp_path / "net.c", format="c", values="f16", card={"classes": list("abcd")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net.h"]
    assert done.agreement.by == "numpy"
    assert 1e-6 < done.agreement.difference < 1e-2
    assert f"#define NET_CONSTANT_BYTES {done.size_bytes}\n" in (tmp_path / "net.h").read_text()
    assert f"#define NET_ARENA_BYTES {done.arena_bytes}\n" in (tmp_path / "net.h").read_text()
    assert harp.export(model, example, tmp_path / "net.harp").arena_bytes is None


def test_f16_that_cannot_hold_a_weight_is_refused(example, tmp_path):
    model = nn.Conv2d(1, 2, 1)
    nn.init.constant_(model.weight, 1e6)
    with pytest.raises(ValueError, match=r"1000000.* f16 cannot"):
        harp.export(model, example, tmp_path / "net.harp", values="f16")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_survives_a_failure(model, example, tmp_path):
    path = tmp_path / "net.harp"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="Softshrink"):
        harp.export(nn.Sequential(model, nn.Softshrink()), example, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    harp.export(model, example, path)
    assert path.read_bytes() != b"before"


def test_a_network_in_training_is_exported_as_it_evaluates_and_stays_in_training(model, example, tmp_path):
    expected = model(example)
    model.train()
    before = copy.deepcopy(model.state_dict())
    done = harp.export(model, example, tmp_path / "net.harp")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(rebuild(read(done.path)[0])(example), expected)


def test_a_model_with_masks_is_refused_and_nothing_is_written(example, tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    harp.attach_masks(model, harp.weight_budget(model, keep=0.5))
    for format in ("harp", "onnx"):
        with pytest.raises(ValueError, match="bake_masks"):
            harp.export(model, example, tmp_path / "net", format=format)
    assert not list(tmp_path.iterdir())


def test_logits_that_are_no_numbers_are_refused(model, example, tmp_path):
    nn.init.constant_(model[-1].bias, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        harp.export(model, example, tmp_path / "net.harp")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"values": "f8"}, "values='f8': expected one of 'f32', 'f16', 'int8'"),
        ({"format": "pt"}, "format='pt': expected one of 'harp', 'onnx', 'c'"),
        ({"format": "onnx", "values": "f16"}, "values='f16' is for format='harp'"),
        ({"tolerance": -1.0}, "tolerance=-1.0: expected how far"),
        ({"tolerance": float("nan")}, "tolerance=nan: expected how far"),
        ({"card": {"seen": {1}}}, "cannot be said in JSON: Object of type set"),
    ],
)
def test_an_unknown_choice_is_refused(model, example, tmp_path, choice, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        inspect.unwrap(harp.export)(model, example, tmp_path / "net", **choice)  # as where no test checks types
    assert not list(tmp_path.iterdir())


class Twice(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (nn.DataParallel(nn.Conv2d(1, 2, 3)), "wrapped in DataParallel: export model.module"),
        (torch.compile(nn.Conv2d(1, 2, 3)), "wrapped in OptimizedModule: export model._orig_mod"),
        (nn.Conv2d(1, 2, 3).half(), "weights of torch.float16: call model.float()"),
        (Twice(), "Twice returns a tuple: expected one tensor of logits"),
    ],
)
def test_what_is_no_plain_network_says_how_to_get_one(wrong, message, example, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        harp.export(wrong, example, tmp_path / "net.harp")
    assert not list(tmp_path.iterdir())


def test_a_directory_is_not_taken_for_a_file(model, example, tmp_path):
    with pytest.raises(ValueError, match="is a directory: name a file in it, such as"):
        harp.export(model, example, tmp_path)


# ONNX


def test_onnx_computes_the_same_for_any_batch(model, example, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = harp.export(model, example, tmp_path / "net.onnx", format="onnx")
    assert done.agreement.difference < 1e-5
    assert done.size_bytes > done.dense_bytes  # no zero is left out
    session = onnxruntime.InferenceSession(done.path)
    for n in (1, 7):
        (found,) = session.run(None, {"images": example[:n].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(example[:n]))


def test_onnx_takes_what_a_graph_cannot_hold(tmp_path):
    pytest.importorskip("onnxruntime")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ELU(), nn.Flatten())
    done = harp.export(model, torch.rand(1, 1, 6, 6), tmp_path / "net.onnx", format="onnx")
    assert done.agreement.images == 1


def test_onnx_names_what_has_to_be_installed(model, example, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs onnx, onnxscript, onnxruntime: pip install '\.\[bench\]'"):
        harp.export(model, example, tmp_path / "net.onnx", format="onnx")
