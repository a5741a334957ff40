"""A network of a few hundred weights with a branch, as the file that engines read."""

from pathlib import Path

import numpy as np
import pytest

from harp.bench.engines import Subject
from harp.bench.findings import write_dense
from harp.runtime.format import write
from harp.runtime.graph import Graph, Node

CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def sparse(*shape: int, keep: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * (rng.random(shape) < keep)).astype(np.float32)


GRAPH = Graph(
    (2, 6, 6),
    (
        Node("conv", (0,), CONV, {"weight": sparse(4, 2, 3, 3), "bias": sparse(4, keep=1.0)}),
        Node("relu", (1,)),
        Node("conv", (2,), CONV, {"weight": sparse(4, 4, 3, 3)}),
        Node("add", (3, 2)),
        Node("flatten", (4,)),
        Node("linear", (5,), {}, {"weight": sparse(3, 144), "bias": sparse(3, keep=1.0)}),
    ),
)


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("net")
    write(folder / "net.harp", GRAPH, card={})
    return Subject(folder / "net.harp", write_dense(folder / "net.harp", folder / "net.onnx"))


@pytest.fixture
def graph() -> Graph:
    return GRAPH


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((3, 2, 6, 6), dtype=np.float32)


@pytest.fixture
def net(subject: Subject) -> Path:
    return subject.file
