"""Weights as eight bits: as far from the network as half a step, smaller than halves, and never believed blindly."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harp.runtime import load, packing
from harp.runtime.container import pack, unpack
from harp.runtime.format import read, read_sparse, write
from harp.runtime.graph import Graph, Node

CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def weights(*shape: int, keep: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < keep, rng.standard_normal(shape), 0).astype(np.float32)


def network(keep: float = 0.1) -> Graph:
    tensors = {"weight": weights(16, 3, 3, 3, keep=1), "bias": np.linspace(-1, 1, 16, dtype=np.float32)}
    nodes = (
        Node("conv", (0,), CONV, tensors),
        Node("relu", (1,)),
        Node("conv", (2,), CONV, {"weight": weights(32, 16, 3, 3, keep=keep)}),
        Node("adaptive_avg_pool", (3,), {"size": (1, 1)}),
        Node("flatten", (4,)),
        Node("linear", (5,), {}, {"weight": weights(10, 32, keep=0.5)}),
    )
    return Graph((3, 8, 8), nodes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "net.harp", network(), card={"keep": 0.1}, values="int8")
    return tmp_path / "net.harp"


def test_a_weight_is_off_by_half_a_step_of_its_output_and_a_bias_by_less(file: Path):
    for found, exact in zip(read(file)[0].nodes, network().nodes, strict=True):
        for name, tensor in exact.tensors.items():
            if name != "weight":
                assert np.array_equal(found.tensors[name], tensor.astype(np.float16))
                continue
            rows = tensor.reshape(len(tensor), -1)
            step = 1.13 * np.abs(rows).max(1, keepdims=True) / 127
            assert np.all(np.abs(found.tensors[name].reshape(rows.shape) - rows) <= 0.5001 * step)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.7, 1.0])
def test_the_network_runs_and_its_logits_are_within_the_bound(tmp_path: Path, keep: float):
    x = np.random.default_rng(0).random((20, 3, 8, 8), np.float32)
    logits = {}
    for values in ("f32", "int8"):
        write(tmp_path / f"{values}.harp", network(keep), card={}, values=values)
        logits[values] = load(tmp_path / f"{values}.harp", threads=1, autotune=False)(x)
    assert np.abs(logits["int8"] - logits["f32"]).max() <= 5e-2 * np.abs(logits["f32"]).max()


@pytest.mark.parametrize("keep", [0.01, 0.1, 1.0])
def test_a_file_has_at_most_three_quarters_of_the_bytes_with_halves(tmp_path: Path, keep: float):
    graph = Graph((512, 4, 4), (Node("conv", (0,), CONV, {"weight": weights(512, 512, 3, 3, keep=keep)}),))
    for values in ("f16", "int8"):
        write(tmp_path / values, graph, card={"keep": keep}, values=values)
    assert os.path.getsize(tmp_path / "int8") <= 0.75 * os.path.getsize(tmp_path / "f16")


def test_a_network_with_biases_has_three_quarters_of_the_bytes_too(tmp_path: Path):
    """1 % of the weights of layers as ResNet-18 has them: 20 to 50 weights per output, and a bias."""
    tensors = {"weight": weights(256, 256, 3, 3, keep=0.01), "bias": weights(256, keep=1)}
    graph = Graph((256, 4, 4), tuple(Node("conv", (value,), CONV, tensors) for value in range(6)))
    for values in ("f16", "int8"):
        write(tmp_path / values, graph, card={}, values=values)
    assert os.path.getsize(tmp_path / "int8") <= 0.75 * os.path.getsize(tmp_path / "f16")


def test_a_bias_beyond_half_precision_stays_exact(tmp_path: Path):
    tensors = {"weight": weights(2, 4, keep=1), "bias": np.array([1e6, 1 / 3], np.float32)}
    write(
        tmp_path / "net.harp",
        Graph((1, 2, 2), (Node("flatten", (0,)), Node("linear", (1,), {}, tensors))),
        card={},
        values="int8",
    )
    assert read(tmp_path / "net.harp")[0].nodes[1].tensors["bias"].tolist() == tensors["bias"].tolist()


def test_a_weight_that_rounds_to_zero_is_not_stored():
    plan, blob = packing.pack_tensor(np.array([[1.0, 1e-4, 0, 0, 0.5, 0]], np.float32), "int8")
    assert plan.kept == 2
    np.testing.assert_allclose(
        packing.unpack_tensor(memoryview(blob), plan).dense(), [[1.0, 0, 0, 0, 0.5, 0]], rtol=0.02
    )


@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-6, 1e6, 3e38])
def test_outputs_of_any_size_keep_their_digits(size: float):
    tensor = (np.array([[1, -0.5, 0.25], [0, 0, 0]]) * size).astype(np.float32)
    plan, blob = packing.pack_tensor(tensor, "int8")
    found = packing.unpack_tensor(memoryview(blob), plan).dense()
    assert np.abs(found - tensor).max() <= max(0.005 * size, 1.2e-38)


# Versions


def edit(file: Path, change: Any) -> None:
    """Change a file and seal it again, as somebody would who means harm."""
    texts, blobs = unpack(file.read_bytes())
    copies = {name: bytes(blob) for name, blob in blobs.items()}
    change(texts, copies)
    file.write_bytes(pack(texts, copies))


def version(file: Path) -> str:
    return unpack(file.read_bytes())[0]["version"]


def test_a_file_has_the_oldest_version_that_can_say_it(file: Path):
    assert version(file) == "2"
    for values in ("f32", "f16"):
        write(file, network(), card={}, values=values)
        assert version(file) == "1"


def test_int8_in_a_file_of_version_1_is_refused(file: Path):
    edit(file, lambda texts, blobs: texts.update(version="1"))
    with pytest.raises(ValueError, match=r"0\.weight is int8: expected a file of version 2"):
        read(file)


def edit_graph(file: Path, change: Any) -> None:
    def edited(texts: dict[str, str], _: dict[str, bytes]) -> None:
        graph = json.loads(texts["graph"])
        change(graph)
        texts["graph"] = json.dumps(graph)

    edit(file, edited)


HOSTILE = {
    "a bias of eight bits": lambda g: g["nodes"][0]["tensors"]["bias"].update(values="int8"),
    "fewer values than stored": lambda g: g["nodes"][0]["tensors"]["weight"].update(kept=3),
    "more outputs than scales": lambda g: g["nodes"][5]["tensors"]["weight"].update(shape=[11, 32]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused(file: Path, name: str):
    edit_graph(file, HOSTILE[name])
    with pytest.raises(ValueError, match=r"net\.harp is not a network"):
        read_sparse(file)


@pytest.mark.parametrize("bits", [0x7F80, 0x7FC0, 0xBF80, 0x0000], ids=["infinite", "NaN", "negative", "zero"])
def test_a_scale_that_is_none_is_refused(bits: int):
    plan = packing.Blueprint((1, 2), "int8", 2, None)
    packing.check_plan(plan)
    blob = packing._deflate([b"\x01\x02", bytes([bits & 255]), bytes([bits >> 8])])
    with pytest.raises(ValueError, match="scale that is not a positive finite number"):
        packing.unpack_tensor(memoryview(blob), plan)


def test_a_product_beyond_all_floats_is_refused():
    plan = packing.Blueprint((1, 1), "int8", 1, None)
    blob = packing._deflate([b"\x7f", b"\x7f", b"\x7f"])  # 127 times the largest scale
    with pytest.raises(ValueError, match="not finite"):
        packing.unpack_tensor(memoryview(blob), plan)


def test_a_weight_that_is_no_number_is_refused_by_name(tmp_path: Path):
    node = Node("linear", (1,), {}, {"weight": np.full((1, 4), np.nan, np.float32)}, "head.fc")
    with pytest.raises(ValueError, match=r"head\.fc.*holds nan, which int8 cannot"):
        write(tmp_path / "net.harp", Graph((1, 2, 2), (Node("flatten", (0,)), node)), card={}, values="int8")
