"""Peak memory is that of the work alone, and a child does not inherit its parent's."""

import sys

import numpy as np
import pytest

from harp.bench import probe as probing
from harp.bench.engines import ENGINES, Engine, Subject
from harp.bench.probe import probe, run_here

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak")
SHAPE = (1, 2, 6, 6)


@linux
def test_the_peak_is_what_loading_and_running_needed_for_a_moment(subject: Subject, monkeypatch: pytest.MonkeyPatch):
    def greedy(subject, batch, threads):
        np.ones(50_000_000, np.uint8)  # given back at once
        return lambda x: x

    monkeypatch.setitem(ENGINES, "greedy", Engine(greedy, ()))
    found = run_here("greedy", subject, SHAPE, threads=1)
    assert found.peak_mb == pytest.approx(50, abs=3)


@linux
def test_a_child_does_not_inherit_the_peak_of_its_parent(subject: Subject):
    ballast = np.ones(400_000_000, np.uint8)
    found = probe("onnxruntime", subject, SHAPE, threads=1)
    assert found.peak_mb is not None
    assert 0 < found.peak_mb < 100 < ballast.nbytes / 1e6
    assert found.first_s > 0


def test_a_failing_child_says_why(subject: Subject):
    with pytest.raises(ChildProcessError, match=r"onnxruntime failed.*has no ONNX file"):
        probe("onnxruntime", Subject(subject.file), SHAPE, threads=1)


def test_where_the_system_does_not_tell_there_is_no_number(subject, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "_STATUS", tmp_path / "missing")
    monkeypatch.setitem(ENGINES, "quick", Engine(lambda *job: lambda x: x, ()))
    assert run_here("quick", subject, SHAPE, threads=1).peak_mb is None
