"""Work and sizes, by hand."""

import zlib

import numpy as np
import pytest

from harp.bench.engines import Subject
from harp.bench.work import sizes_of, work_of
from harp.runtime.graph import Graph, Node


def test_multiplications_are_non_zeros_times_places():
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[0, 0, :, 1] = 1.0
    dense = np.ones((5, 8), np.float32)
    strided = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    graph = Graph(
        (1, 4, 4),
        (
            Node("conv", (0,), strided, {"weight": weight}),
            Node("flatten", (1,)),
            Node("linear", (2,), {}, {"weight": dense}),
        ),
    )
    found = work_of(graph)
    assert (found.weights, found.kept, found.macs, found.macs_left) == (18 + 40, 3 + 40, 18 * 4 + 40, 3 * 4 + 40)
    assert found.keep == 43 / 58
    assert found.gflops(batch=10, elapsed_ms=2.0) == pytest.approx(2 * 52 * 10 / 2e-3 / 1e9)


def test_a_network_without_weights_keeps_all_of_none():
    assert work_of(Graph((1, 4, 4), (Node("relu", (0,)),))).keep == 1.0


@pytest.mark.parametrize("zstd", [True, False])
def test_sizes_are_those_of_the_files_and_of_dense_float32(
    zstd: bool, subject: Subject, graph: Graph, monkeypatch: pytest.MonkeyPatch
):
    if not zstd:
        monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    found = sizes_of(subject.file, graph, subject.dense)
    values = 4 * 2 * 9 + 4 + 4 * 4 * 9 + 3 * 144 + 3
    assert found.dense == 4 * values
    assert found.file == len(subject.file.read_bytes())
    assert found.onnx == len(subject.dense.read_bytes())
    assert found.compressor == ("zstd -12" if zstd else "zlib -6")
    everything = b"".join(t.tobytes() for node in graph.nodes for t in node.tensors.values())
    assert found.compressed == pytest.approx(len(zlib.compress(everything)), rel=0.2)


def test_a_linear_layer_on_tokens_multiplies_for_each_of_them():
    graph = Graph((3, 4, 8), (Node("linear", (0,), {}, {"weight": np.ones((5, 8), np.float32)}),))
    assert work_of(graph).macs == 40 * 12
