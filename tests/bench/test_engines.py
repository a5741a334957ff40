"""Every engine computes the same from its own form of the network, in float32, on as many threads as it is told."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from harp.bench.engines import ENGINES, NAMES, UNTUNED, Subject, absence
from harp.exporting import rebuild
from harp.runtime.graph import Graph


def engine_or_skip(name: str):
    if (reason := absence(name)) is not None:
        pytest.skip(reason)
    return ENGINES[name]


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "inductor"])
@pytest.mark.parametrize("batch", [1, 3])
def test_an_engine_computes_what_pytorch_does(
    name: str, batch: int, subject: Subject, graph: Graph, images: np.ndarray
):
    run = engine_or_skip(name).open(subject, batch, 1)
    expected = rebuild(graph)(torch.from_numpy(images[:batch])).numpy()
    assert_allclose(run(images[:batch]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_inductor_computes_what_pytorch_does(subject: Subject):
    """In a process of its own: Inductor would compile the shape checks that tests put around every function."""
    engine_or_skip("inductor")
    program = f"""
from pathlib import Path
from harp.bench.engines import Subject
from harp.bench.race import Race, Entrant, race
net = Subject(Path({str(subject.file)!r}))
found = race({{name: Entrant(name, net) for name in ("torch", "inductor")}}, Race((2, 6, 6), 3, 1, 0.1))
print(sorted(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout == "['inductor', 'torch']\n", done.stderr


def test_pytorch_runs_on_the_threads_it_is_told(subject: Subject, images: np.ndarray):
    before = torch.get_num_threads()
    try:
        one, two = (ENGINES["torch"].open(subject, 3, threads) for threads in (1, 2))
        for run, threads in [(one, 1), (two, 2), (one, 1)]:
            run(images)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_openvino_is_told_to_compute_in_float32(subject: Subject, monkeypatch: pytest.MonkeyPatch):
    openvino = pytest.importorskip("openvino")
    compiled = []
    real = openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", lambda *a: compiled.append(real(*a)) or compiled[-1])
    ENGINES["openvino"].open(subject, 1, 1)
    assert compiled[0].get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled[0].get_property("INFERENCE_NUM_THREADS") == 1


def test_an_engine_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    assert absence("openvino") == (
        "openvino is left out: openvino is not installed; pip install '.[bench]' in a checkout of harp"
    )
    assert absence("torch") is None


def test_inductor_needs_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler 'no-such-compiler'" in (absence("inductor") or "")
    assert absence("torch") is None


def test_without_onnx_an_engine_that_reads_it_says_so(net):
    with pytest.raises(ValueError, match="has no ONNX file"):
        engine_or_skip("onnxruntime").open(Subject(net), 1, 1)


def test_the_engines_that_are_compared_are_those_that_records_may_name():
    assert NAMES == ("harp", "torch", "inductor", "onnxruntime", "openvino")
    assert set(ENGINES) == {*NAMES, UNTUNED}
