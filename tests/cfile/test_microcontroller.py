"""On an emulated Cortex-M4 a C file gives the classes that the engine gives, in the memory that it states."""

import importlib

import numpy as np
import pytest

from harp.cfile import write_c
from harp.runtime import Session

LARGEST = {"vgg_small": 16 * 1024, "resnet_small": 32 * 1024}
"""Bytes of flash, and of memory, for networks of which 1 % of the weights are left."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), [("vgg_small", (1, 8, 8)), ("resnet_small", (1, 14, 14))])
def test_a_cortex_m4_gives_the_classes_of_the_engine_in_few_kilobytes(name, shape, tmp_path, monkeypatch, root):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    board = importlib.import_module("emulated_cortex_m")
    if board.absence():
        pytest.skip(board.absence())
    graph = importlib.import_module("microcontroller").random_graph(name, shape)
    images = np.random.default_rng(1).random((200, *shape), np.float32)
    expected = Session(graph, threads=1, autotune=False)(images)
    done = write_c(tmp_path / "network.c", graph, images=images)
    found = board.emulate([done.path], images, 10, tmp_path)
    assert np.array_equal(found.results.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found.results, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert found.static_bytes == done.arena_bytes
    assert done.constant_bytes < found.flash_bytes < LARGEST[name]
    assert found.ram_bytes + images[0].nbytes + expected[0].nbytes < LARGEST[name]
    assert 0 < found.stack_bytes < 1024
