"""The engine computes what PyTorch computes, whatever the network, the batch, the threads and the instruction set."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harp.runtime
from harp.exporting.rebuilding import rebuild
from harp.runtime import Session
from harp.runtime.arranging import arrange
from harp.runtime.format import write
from harp.runtime.graph import Graph, Node
from harp.runtime.lowering import lower
from harp.runtime.shapes import shapes
from harp.runtime.trimming import trim

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

thorough = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
quick = settings(thorough, max_examples=30)
CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": False}


def images(graph: Graph, batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((batch, *graph.input), np.float32)


def expected(graph: Graph, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return rebuild(graph)(torch.from_numpy(x)).numpy()


def agree(result: np.ndarray, reference: np.ndarray) -> bool:
    return result.shape == reference.shape and bool(
        np.abs(result - reference).max() <= 1e-4 * np.abs(reference).max() + 1e-6
    )


@thorough
@given(
    seed=st.integers(0, 2**32),
    keep=st.sampled_from([0.0, 0.01, 0.04, 0.2, 0.6, 1.0]),
    nodes=st.integers(1, 9),
    batch=st.integers(1, 17),
    threads=st.sampled_from([1, 1, 2, 3]),
)
def test_any_network_gives_what_pytorch_gives(
    draw_graph: Callable[..., Graph], instructions, seed, keep, nodes, batch, threads
):
    graph = draw_graph(seed, keep, nodes)
    x = images(graph, batch, seed % 1000)
    assert agree(Session(graph, threads=threads, autotune=False)(x), expected(graph, x))


@settings(thorough, max_examples=25)
@given(seed=st.integers(0, 2**32), keep=st.sampled_from([0.02, 0.3]), batch=st.sampled_from([1, 5, 16]))
def test_whatever_tuning_chooses_the_result_stays(draw_graph: Callable[..., Graph], seed, keep, batch):
    graph = draw_graph(seed, keep, 5)
    x = images(graph, batch)
    assert agree(Session(graph, threads=1, autotune=True)(x), expected(graph, x))


def plain(keep: float, width: int = 24, side: int = 16, seed: int = 0) -> Graph:
    """A small VGG with a residual: every shape of tile, from maps of 16 × 16 to vectors."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        values = rng.standard_normal(shape) * (rng.random(shape) < keep) / np.sqrt(max(keep * np.prod(shape[1:]), 1))
        return values.astype(np.float32)

    def conv(inputs: int, value: int, name: str) -> Node:
        return Node("conv", (value,), CONV, {"weight": weight(width, inputs, 3, 3), "bias": weight(width)}, name)

    return Graph(
        (3, side, side),
        (
            conv(3, 0, "stem"),
            Node("relu", (1,)),
            conv(width, 2, "left"),
            Node("add", (3, 2)),
            Node("relu", (4,)),
            conv(width, 5, "pooled"),
            Node("relu", (6,)),
            Node("max_pool", (7,), POOL),
            conv(width, 8, "small"),
            Node("max_pool", (9,), POOL),
            Node("adaptive_avg_pool", (10,), {"size": (1, 1)}),
            Node("flatten", (11,)),
            Node("linear", (12,), {}, {"weight": weight(10, width), "bias": weight(10)}, "fc"),
        ),
    )


@pytest.mark.parametrize("keep", [0.03, 0.5])
@pytest.mark.parametrize("batch", [0, 1, 2, 7, 16, 33])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_batch_and_number_of_threads(keep: float, batch: int, threads: int):
    graph = plain(keep)
    x = images(graph, batch)
    result = Session(graph, threads=threads, autotune=False)(x)
    assert result.shape == (batch, 10)
    assert batch == 0 or agree(result, expected(graph, x))


def test_the_number_of_threads_changes_no_bit_of_one_image():
    graph = plain(0.1)
    x = images(graph, 1)
    one, three = (Session(graph, threads=threads, autotune=False)(x) for threads in (1, 3))
    assert np.array_equal(one, three)


def test_other_image_sizes_run_where_the_network_allows_it():
    graph = plain(0.2)
    session = Session(graph, threads=1, autotune=False)
    for height, width in ((16, 16), (4, 4), (5, 9), (31, 18), (64, 40)):
        x = np.random.default_rng(0).random((3, 3, height, width), np.float32)
        assert agree(session(x), expected(graph, x)), (height, width)


def test_sizes_not_seen_for_long_are_forgotten_and_can_come_back():
    graph = plain(0.2)
    session = Session(graph, threads=2, autotune=False)
    for side in (*range(4, 80), 4):
        x = np.random.default_rng(0).random((1, 3, side, side), np.float32)
        result = session(x)
    assert agree(result, expected(graph, x))
    assert session._engine.plans == 16
    assert len(session._known) < 76


def test_bytes_are_images_of_255ths_with_channels_last():
    graph = plain(0.2)
    x = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    floats = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    session = Session(graph, threads=1, autotune=False)
    assert np.array_equal(session(x), session(floats))


def test_arrays_of_any_strides_are_accepted():
    graph = plain(0.2)
    session = Session(graph, threads=1, autotune=False)
    x = images(graph, 6)
    assert np.array_equal(session(x[::2]), session(np.ascontiguousarray(x[::2])))


def test_many_threads_of_python_may_call_at_once(wrong_at_once: Callable[..., list[int]]):
    graph = plain(0.1)
    session = Session(graph, threads=2, autotune=False)
    batches = [images(graph, n, seed=n) for n in (1, 3, 16, 20)]
    alone = [session(x) for x in batches]
    assert wrong_at_once(session, batches, alone, times=15) == []


def test_nan_reaches_what_depends_on_it_and_no_other_image():
    graph = plain(0.6)
    x = images(graph, 4)
    clean = Session(graph, threads=1, autotune=False)(x)
    x[1, 0, 5, 5] = np.nan
    result = Session(graph, threads=1, autotune=False)(x)
    assert np.isnan(result[1]).all()
    assert np.array_equal(result[[0, 2, 3]], clean[[0, 2, 3]])


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((3, 16, 16), np.float32), ValueError, "four dimensions"),
        (np.zeros((1, 1, 16, 16), np.float32), ValueError, "expected 3 channels"),
        (np.zeros((1, 3, 16, 16), np.uint8), ValueError, "expected 3 channels"),
        (np.zeros((1, 3, 16, 16)), TypeError, "float64: expected"),
        (np.zeros((1, 3, 3, 3), np.float32), ValueError, "does not fit"),
        (np.zeros((1, 3, 0, 3), np.float32), ValueError, "each at least 1"),
    ],
)
def test_a_wrong_input_says_what_was_expected(x, error, message):
    with pytest.raises(error, match=message):
        Session(plain(0.2), threads=1, autotune=False)(x)


@pytest.mark.parametrize("threads", [0, -1, 5000, 1.5, "2"])
def test_a_wrong_number_of_threads_is_refused(threads: Any):
    with pytest.raises(ValueError, match=r"threads=.* expected a whole number between 1 and"):
        inspect.unwrap(harp.runtime.session._count_threads)(threads)  # as where no test checks types


def test_a_session_tells_what_is_left_to_multiply():
    graph = plain(0.1)
    session = Session(graph, threads=1, autotune=False)
    kept, dense = session.macs()
    pixels = {"stem": 256, "left": 256, "pooled": 256, "small": 64, "fc": 1}
    weights = {n.name: n.tensors["weight"] for n in graph.nodes if "weight" in n.tensors}
    assert dense == sum(weights[name].size * count for name, count in pixels.items())
    assert 0 < kept <= sum(np.count_nonzero(weights[name]) * count for name, count in pixels.items())
    assert {layer.name for layer in session.layers(16)} >= set(pixels)
    with pytest.raises(ValueError, match="batch=0: expected between 1 and"):
        session.layers(0)


def test_channels_without_weights_and_without_readers_are_gone():
    rng = np.random.default_rng(0)
    first, second = (rng.random((8, c, 3, 3), np.float32) for c in (3, 8))
    first[2:5] = 0  # zero after the ReLU: their biases are negative
    second[:, 6] = 0  # nobody reads channel 6
    bias = np.array([1, 1, -1, -1, 0, 1, 1, 1], np.float32)
    graph = Graph(
        (3, 8, 8),
        (
            Node("conv", (0,), CONV, {"weight": first, "bias": bias}),
            Node("relu", (1,)),
            Node("conv", (2,), CONV, {"weight": second}),
        ),
    )
    values = shapes(graph)
    layers = trim(lower(graph, values), values)
    assert [layer.channels for layer in layers] == [4, 8]
    x = images(graph, 2)
    assert agree(Session(graph, threads=1, autotune=False)(x), expected(graph, x))


@thorough
@given(seed=st.integers(0, 2**32), keep=st.sampled_from([0.01, 0.05, 0.2]))
def test_trimmed_layers_read_only_channels_that_are_there(draw_graph: Callable[..., Graph], seed, keep):
    """Channels that a sum ties together stay together, with all that their own layers read."""
    for graph in (draw_graph(seed, keep, 9), tied(seed, keep)):
        arranged, values = arrange(graph, shapes(graph))
        for layer in trim(lower(arranged, values), values):
            if layer.rows is not None:
                rows = [layer.rows.columns[a:b] for a, b in pairwise(layer.rows.starts)]
                assert all((np.diff(row) > 0).all() for row in rows)
                assert all(row.max(initial=-1) < layer.rows.inputs * layer.rows.window for row in rows)


def tied(seed: int, keep: float) -> Graph:
    """Residual blocks, of which the last reads only some channels."""
    rng = np.random.default_rng(seed)

    def conv(value: int, inputs: int) -> Node:
        weight = (rng.standard_normal((16, inputs, 3, 3)) * (rng.random((16, inputs, 3, 3)) < keep)).astype(np.float32)
        return Node("conv", (value,), CONV, {"weight": weight, "bias": np.zeros(16, np.float32)})

    nodes = [conv(0, 3), Node("relu", (1,))]
    for _ in range(3):
        value = len(nodes)
        nodes += [conv(value, 16), Node("relu", (value + 1,)), conv(value + 2, 16)]
        nodes += [Node("add", (value + 3, value)), Node("relu", (value + 4,))]
    nodes.append(conv(len(nodes), 16))
    return Graph((3, 5, 5), tuple(nodes))


@quick
@given(seed=st.integers(0, 2**32), keep=st.sampled_from([0.01, 0.03, 0.1]))
def test_residual_networks_without_most_channels_give_what_pytorch_gives(seed, keep):
    graph = tied(seed, keep)
    x = images(graph, 2)
    assert agree(Session(graph, threads=1, autotune=False)(x), expected(graph, x))


def test_a_linear_layer_on_another_map_of_as_many_pixels_is_refused():
    weight = np.ones((2, 16), np.float32)
    graph = Graph((1, 4, 4), (Node("flatten", (0,)), Node("linear", (1,), {}, {"weight": weight}, "head")))
    session = Session(graph, threads=1)
    assert session(np.ones((1, 1, 4, 4), np.float32)).tolist() == [[16, 16]]
    with pytest.raises(ValueError, match=r"head was made for maps of \(4, 4\), and would get \(2, 8\)"):
        session(np.ones((1, 1, 2, 8), np.float32))


@pytest.mark.parametrize("keep", [0.2, 1.0])
def test_a_pooling_behind_a_wide_stride_is_its_own_step(keep: float):
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((5, 3, 3, 3)) * (rng.random((5, 3, 3, 3)) < keep)).astype(np.float32)
    nodes = (Node("conv", (0,), CONV | {"stride": (1, 3)}, {"weight": weight}), Node("max_pool", (1,), POOL))
    graph = Graph((3, 9, 17), nodes)
    x = images(graph, 3)
    assert agree(Session(graph, threads=1, autotune=False)(x), expected(graph, x))


def test_a_network_of_nothing_but_zeros_is_its_biases():
    graph = plain(0.0)
    x = images(graph, 3)
    assert agree(Session(graph, threads=1, autotune=False)(x), expected(graph, x))


@pytest.mark.parametrize("values", ["f32", "f16"])
def test_a_file_is_loaded_and_run_without_torch(tmp_path: Path, values):
    graph = plain(0.1)
    write(tmp_path / "net.harp", graph, card={"keep": 0.1}, values=values)
    x = images(graph, 2)
    np.save(tmp_path / "x.npy", x)
    program = f"""
import sys, numpy as np, harp.runtime
session = harp.runtime.load({str(tmp_path / "net.harp")!r}, threads=1, autotune=False)
assert session.card == {{"keep": 0.1}}
np.save({str(tmp_path / "y.npy")!r}, session(np.load({str(tmp_path / "x.npy")!r})))
print(sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "scipy", "safetensors", "tyro", "jaxtyping")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    reference = expected(graph, x)
    bound = 1e-4 if values == "f32" else 5e-3
    assert np.abs(np.load(tmp_path / "y.npy") - reference).max() <= bound * np.abs(reference).max()


def test_the_peak_is_a_number_of_gigaflops():
    assert 1 < harp.runtime.peak_gflops(1) < 10_000
    assert harp.runtime.isa() in ("AVX-512", "AVX2", "NEON", "baseline")
