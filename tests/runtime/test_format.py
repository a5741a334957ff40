"""The file of a network: what is written comes back, at the promised size, and nothing else is believed."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from harp.runtime import container, packing
from harp.runtime.container import pack, unpack
from harp.runtime.format import VERSION, read, read_sparse, write
from harp.runtime.graph import Graph, Node

quick = settings(max_examples=60, deadline=None, derandomize=True)
CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def weights(*shape: int, keep: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) < keep)).astype(np.float32)


def network(keep: float = 0.05, width: int = 32) -> Graph:
    return Graph(
        (3, 8, 8),
        (
            Node(
                "conv", (0,), CONV, {"weight": weights(width, 3, 3, 3, keep=0.9), "bias": weights(width, keep=1)}, "a"
            ),
            Node("relu", (1,)),
            Node("conv", (2,), CONV, {"weight": weights(width, width, 3, 3, keep=keep)}, "b"),
            Node("add", (2, 3)),
            Node("adaptive_avg_pool", (4,), {"size": (1, 1)}),
            Node("flatten", (5,)),
            Node("linear", (6,), {}, {"weight": weights(10, width, keep=keep), "bias": weights(10, keep=0)}, "fc"),
        ),
    )


def same(a: Graph, b: Graph) -> bool:
    return a.input == b.input and all(
        (x.op, x.inputs, dict(x.attributes), x.name) == (y.op, y.inputs, dict(y.attributes), y.name)
        and x.tensors.keys() == y.tensors.keys()
        and all(np.array_equal(x.tensors[n], y.tensors[n]) for n in x.tensors)
        for x, y in zip(a.nodes, b.nodes, strict=True)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "net.harp", network(), card={"keep": 0.05})
    return tmp_path / "net.harp"


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.3, 0.61, 1.0])
def test_a_network_comes_back_as_it_was(tmp_path: Path, keep: float):
    write(tmp_path / "net.harp", network(keep), card={"keep": keep, "notes": ["ü", None]})
    graph, card = read(tmp_path / "net.harp")
    assert same(graph, network(keep))
    assert card == {"keep": keep, "notes": ["ü", None]}


def test_half_precision_rounds_weights_and_leaves_biases(tmp_path: Path):
    write(tmp_path / "net.harp", network(), card={}, values="f16")
    conv, before = read(tmp_path / "net.harp")[0].nodes[0], network().nodes[0]
    assert np.array_equal(conv.tensors["weight"], before.tensors["weight"].astype(np.float16))
    assert np.array_equal(conv.tensors["bias"], before.tensors["bias"])


def test_a_negative_zero_is_pruned_like_any_other():
    plan, _ = packing.pack_tensor(np.array([[-0.0, 1.0, 0.0, 0.0]], np.float32), "f32")
    assert plan.kept == 1


def test_other_readers_of_safetensors_see_texts_and_bytes(file: Path):
    with safe_open(file, framework="np") as other:
        assert json.loads(other.metadata()["card"]) == {"keep": 0.05}
        assert other.get_tensor("2.weight").dtype == np.uint8


@quick
@given(st.integers(0, 3), st.lists(st.integers(0, 700), max_size=30), st.integers(0, 600))
def test_any_gaps_between_non_zeros_survive(seed: int, gaps: list[int], tail: int):
    tensor = np.zeros(sum(gaps) + len(gaps) + tail + 1, np.float32)
    tensor[np.cumsum(np.array(gaps, int) + 1) - 1] = weights(len(gaps), keep=1, seed=seed)
    plan, blob = packing.pack_tensor(tensor, "f32")
    packing.check_plan(plan)
    assert np.array_equal(packing.unpack_tensor(memoryview(blob), plan).dense(), tensor)


@pytest.mark.parametrize(("keep", "values", "ratio"), [(0.01, "f16", 130), (0.01, "f32", 75), (0.1, "f16", 16)])
def test_the_file_is_smaller_than_the_dense_network_by_the_promised_factor(
    tmp_path: Path, keep: float, values: Any, ratio: float
):
    node = Node("conv", (0,), CONV, {"weight": weights(512, 512, 3, 3, keep=keep)})
    write(tmp_path / "net.harp", Graph((512, 4, 4), (node,)), card={"keep": keep}, values=values)
    assert 4 * 512 * 512 * 9 / os.path.getsize(tmp_path / "net.harp") > ratio


def test_each_part_of_a_tensor_is_compressed_by_what_suits_it():
    rng = np.random.default_rng(0)
    parts = [rng.bytes(1000) * 50, rng.normal(50, 2, 50_000).astype(np.uint8).tobytes()]  # repeats, and statistics
    one_for_all = [sum(len(packing._deflate_with(part, 9, s)) for part in parts) for s in packing._STRATEGIES]
    assert len(packing._deflate(parts)) < 0.97 * min(one_for_all)


def test_only_one_strategy_is_given_a_whole_tensor(monkeypatch: pytest.MonkeyPatch):
    given: list[int] = []
    deflate = packing._deflate_with
    monkeypatch.setattr(packing, "_deflate_with", lambda part, *how: given.append(len(part)) or deflate(part, *how))
    plan, _ = packing.pack_tensor(weights(1024, 1024, keep=1), "f32")
    assert plan.size_bytes < sum(given) < 1.1 * plan.size_bytes


def test_what_would_expand_too_far_is_stored_as_it_is(tmp_path: Path):
    graph = Graph(
        (2**17, 1, 1), (Node("affine", (0,), {}, {n: np.ones(2**17, np.float32) for n in ("scale", "shift")}),)
    )
    write(tmp_path / "net.harp", graph, card={})
    assert same(read(tmp_path / "net.harp")[0], graph)


@pytest.mark.parametrize(
    ("value", "values", "message"), [(np.inf, "f32", "inf"), (np.nan, "f32", "nan"), (1e6, "f16", "65504")]
)
def test_a_weight_that_cannot_be_stored_names_its_layer_and_nothing_is_written(tmp_path, value, values, message):
    node = Node("linear", (1,), {}, {"weight": np.full((1, 4), value, np.float32)}, "head.fc")
    with pytest.raises(ValueError, match=rf"head\.fc.*{message}"):
        write(tmp_path / "net.harp", Graph((1, 2, 2), (Node("flatten", (0,)), node)), card={}, values=values)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_litter(file: Path, monkeypatch: pytest.MonkeyPatch):
    before = file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write(file, network(0.5), card={})
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_every_truncation_is_noticed(file: Path):
    content = file.read_bytes()
    for length in [*range(0, 64), *range(64, len(content), 97), len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"net\.harp"):
            read(file)


def test_every_flipped_bit_is_noticed(file: Path):
    content = file.read_bytes()
    for place in range(0, len(content), 41):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"net\.harp"):
            read(file)


def test_a_newer_version_says_update(file: Path):
    edit(file, lambda texts, blobs: texts.update(version=str(VERSION + 1)))
    with pytest.raises(ValueError, match="update harp"):
        read(file)


def test_a_safetensors_file_of_something_else_says_what_is_wanted(file: Path):
    edit(file, lambda texts, blobs: texts.pop("format"))
    with pytest.raises(ValueError, match="harp export"):
        read(file)


def test_a_file_of_another_kind_says_what_is_wanted(file: Path):
    file.write_bytes(b"\x08\x0a\x12\x07pytorch" * 20)  # as ONNX begins
    with pytest.raises(ValueError, match=r"net\.harp is not .* a file of another kind; `harp export` writes"):
        read(file)


def edit(file: Path, change: Any) -> None:
    """Change a file and seal it again, as somebody would who means harm."""
    texts, blobs = unpack(file.read_bytes())
    copies = {name: bytes(blob) for name, blob in blobs.items()}
    change(texts, copies)
    file.write_bytes(pack(texts, copies))


def edit_graph(file: Path, change: Any) -> None:
    def edited(texts: dict[str, str], _: dict[str, bytes]) -> None:
        graph = json.loads(texts["graph"])
        change(graph)
        texts["graph"] = json.dumps(graph)

    edit(file, edited)


HOSTILE = {
    "an unknown operation": lambda g: g["nodes"][1].update(op="exec"),
    "an operation that is no text": lambda g: g["nodes"][1].update(op=["relu"]),
    "a value from the future": lambda g: g["nodes"][1].update(inputs=[5]),
    "a negative value": lambda g: g["nodes"][1].update(inputs=[-1]),
    "a huge stride": lambda g: g["nodes"][0]["attributes"].update(stride=[2**40, 1]),
    "a stride of zero": lambda g: g["nodes"][0]["attributes"].update(stride=[0, 1]),
    "a stride that is no number": lambda g: g["nodes"][0]["attributes"].update(stride=["1", 1]),
    "an attribute too many": lambda g: g["nodes"][0]["attributes"].update(code="1"),
    "groups that do not divide": lambda g: g["nodes"][0]["attributes"].update(groups=2),
    "a padding beyond memory": lambda g: g["nodes"][0]["attributes"].update(padding=[2**20, 2**20]),
    "an image beyond memory": lambda g: g.update(input=[3, 2**20, 2**20]),
    "an image of no pixels": lambda g: g.update(input=[3, 0, 8]),
    "a weight beyond memory": lambda g: g["nodes"][2]["tensors"]["weight"].update(shape=[2**30, 2**30, 3, 3]),
    "a weight of another shape": lambda g: g["nodes"][2]["tensors"]["weight"].update(shape=[32, 16, 3, 3]),
    "more values than elements": lambda g: g["nodes"][2]["tensors"]["weight"].update(kept=10**6),
    "more gap codes than elements": lambda g: g["nodes"][2]["tensors"]["weight"].update(gaps=10**9),
    "values without positions": lambda g: g["nodes"][2]["tensors"]["weight"].update(gaps=None),
    "a negative count": lambda g: g["nodes"][2]["tensors"]["weight"].update(kept=-1),
    "an unknown kind of value": lambda g: g["nodes"][2]["tensors"]["weight"].update(values=["f32"]),
    "a tensor that is not there": lambda g: g["nodes"][2]["tensors"].update(bias=g["nodes"][0]["tensors"]["bias"]),
    "nodes that are no list": lambda g: g.update(nodes={"0": 1}),
    "no nodes": lambda g: g.update(nodes=[]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused(file: Path, name: str):
    edit_graph(file, HOSTILE[name])
    with pytest.raises(ValueError, match=r"net\.harp is not a network"):
        read_sparse(file)


def inflated(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(size)) + packer.flush()


HOSTILE_BLOBS = {
    "a bomb": inflated(10**8),
    "nothing": b"",
    "no deflate": b"\xff" * 100,
    "too little": inflated(10),
}


@pytest.mark.parametrize("name", HOSTILE_BLOBS)
def test_a_hostile_blob_is_refused(file: Path, name: str):
    edit(file, lambda texts, blobs: blobs.update({"2.weight": HOSTILE_BLOBS[name]}))
    with pytest.raises(ValueError, match=r"2\.weight"):
        read_sparse(file)


def test_positions_beyond_the_tensor_are_refused():
    plan, blob = packing.pack_tensor(np.array([0, 0, 0, 1], np.float32), "f32")
    smaller = packing.Blueprint((3,), plan.values, plan.kept, plan.gaps)
    with pytest.raises(ValueError, match="position 3, beyond its 3"):
        packing.unpack_tensor(memoryview(blob), smaller)


def test_a_value_that_is_not_finite_is_refused():
    _, blob = packing.pack_tensor(np.array([3.0], np.float32), "f32")
    nan = np.array([np.nan], np.float32).tobytes()
    packed = blob.replace(blob, packing._deflate([bytes([byte]) for byte in nan]))
    with pytest.raises(ValueError, match="not finite"):
        packing.unpack_tensor(memoryview(packed), packing.Blueprint((1,), "f32", 1, None))


def test_a_small_file_that_promises_a_large_one_is_refused_before_it_is_made():
    plan = packing.Blueprint((10**9,), "f32", 10**9, None)
    packing.check_plan(plan)
    with pytest.raises(ValueError, match="packed that tightly"):
        packing.unpack_tensor(memoryview(inflated(10**7)), plan)


def test_a_file_of_holes_is_refused():
    content = pack({}, {"a": b"12", "b": b"34"})
    for old, new in ((b"[2,4]", b"[1,3]"), (b"[2,4]", b"[2,9]"), (b"U8", b"I8"), (b"[2]", b"[3]")):
        with pytest.raises(ValueError, match=r".+"):
            container.unpack(content.replace(old, new, 1))
