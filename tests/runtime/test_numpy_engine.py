"""Without a compiled engine numpy computes the same, says so once, and says how to get the engine."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harp.runtime
from harp.exporting.rebuilding import rebuild
from harp.runtime import Session
from harp.runtime.format import write
from harp.runtime.graph import OPS, Graph, Node
from harp.runtime.lowering import lower
from harp.runtime.numpy_engine import NumpyEngine
from harp.runtime.shapes import shapes
from harp.runtime.trimming import trim

CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
RUNS = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def images(graph: Graph, batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((batch, *graph.input), np.float32)


def in_numpy(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> Session:
    with monkeypatch.context() as patch:
        patch.setattr("harp.runtime.session._engine", None)
        return Session(graph, threads=1)


def agree(result: np.ndarray, reference: np.ndarray) -> bool:
    return result.shape == reference.shape and bool(
        np.abs(result - reference).max(initial=0) <= 1e-4 * np.abs(reference).max(initial=0) + 1e-6
    )


def test_the_networks_drawn_here_have_every_operation_of_the_format(draw_graph: Callable[..., Graph]):
    seen = {node.op for seed in range(300) for node in draw_graph(seed, 0.5, 9).nodes}
    assert seen == set(OPS)


@RUNS
@given(
    seed=st.integers(0, 2**32),
    keep=st.sampled_from([0.0, 0.01, 0.2, 1.0]),
    nodes=st.integers(1, 9),
    batch=st.integers(0, 9),
)
def test_any_network_gives_what_pytorch_and_the_engine_give(
    draw_graph: Callable[..., Graph], monkeypatch, seed, keep, nodes, batch
):
    graph = draw_graph(seed, keep, nodes)
    x = images(graph, batch, seed % 1000)
    found = in_numpy(graph, monkeypatch)(x)
    if batch:
        assert agree(found, rebuild(graph)(torch.from_numpy(x)).numpy())
    if harp.runtime.session._engine is not None:
        assert agree(found, Session(graph, threads=1, autotune=False)(x))


def test_every_activation_of_the_engine_is_there_and_the_same(monkeypatch: pytest.MonkeyPatch):
    ops = [("gelu", {"tanh": True}), ("gelu", {"tanh": False}), ("leaky_relu", {"slope": 0.3})]
    ops += [(op, {}) for op in ("relu", "relu6", "sigmoid", "silu", "hardswish", "hardsigmoid", "softmax")]
    x = np.linspace(-30, 30, 96, dtype=np.float32).reshape(2, 3, 4, 4)
    for op, attributes in ops:
        graph = Graph((3, 4, 4), (Node(op, (0,), attributes),))
        assert agree(in_numpy(graph, monkeypatch)(x), rebuild(graph)(torch.from_numpy(x)).numpy()), op


def test_more_images_than_are_taken_at_once_give_what_each_gives_alone(monkeypatch: pytest.MonkeyPatch):
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = Graph((3, 5, 5), (Node("conv", (0,), CONV, {"weight": weight}),))
    x = images(graph, 5)
    whole = in_numpy(graph, monkeypatch)(x)
    monkeypatch.setattr("harp.runtime.numpy_engine._GATHERED_BYTES", 1)
    np.testing.assert_allclose(in_numpy(graph, monkeypatch)(x), whole, rtol=1e-5, atol=1e-6)


def test_bytes_are_divided_by_255_and_values_are_let_go_after_their_last_reader():
    graph = Graph((3, 2, 2), (Node("relu", (0,)), Node("add", (1, 0))))
    values = shapes(graph)
    engine = NumpyEngine(trim(lower(graph, values), values), threads=3)
    x = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3), np.uint8)
    out = np.empty((2, 12), np.float32)
    engine.run(x, [(3, 2, 2)] * 3, out, False)
    expected = 2 * (x.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert np.array_equal(out.reshape(expected.shape), expected)
    assert engine.describe(1, [], False) == ["numpy", "numpy"]
    assert engine.threads == 3


def test_without_the_extension_a_file_runs_and_one_line_says_how_to_get_it(tmp_path: Path):
    weight = np.ones((2, 16), np.float32)
    graph = Graph((1, 4, 4), (Node("flatten", (0,)), Node("linear", (1,), {}, {"weight": weight})))
    write(tmp_path / "net.harp", graph, card={})
    program = f"""
import sys
sys.modules["harp.runtime._engine"] = None
import numpy as np, harp.runtime
for _ in range(2):
    session = harp.runtime.load({str(tmp_path / "net.harp")!r})
print(session(np.ones((1, 1, 4, 4), np.float32)).tolist(), session.isa, session.macs())
try:
    harp.runtime.isa()
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    first, refusal = done.stdout.splitlines()
    assert first == "[[16.0, 16.0]] numpy (32, 32)", done.stderr
    command = "in a checkout of harp: pip install --no-cache-dir --force-reinstall --no-deps ."
    assert done.stderr.count("many times slower") == done.stderr.count(command) == 1
    assert refusal.endswith(command)
