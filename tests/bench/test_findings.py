"""`harp bench` from the file to the recommendation, with an engine of our own in harp's place."""

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console as Terminal

from harp.bench import findings
from harp.bench.engines import ENGINES, Engine, Subject
from harp.bench.findings import Bench, Findings, bench, write_findings
from harp.bench.records import PUBLIC, write_records
from harp.cli import main
from harp.cli.bench import show


@pytest.fixture
def stand_in(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch under the name of our runtime: what is tested here is the measuring."""
    monkeypatch.setitem(ENGINES, "harp", Engine(ENGINES["torch"].open, ("torch",), dense=False))
    monkeypatch.setattr(findings, "peak_gflops", lambda threads: 100.0 * threads)
    monkeypatch.setattr(findings, "write_dense", lambda file, onnx: subject.dense)  # it takes seconds
    monkeypatch.setattr(findings, "surroundings", lambda: {"cpu": "a CPU", "cores": 2, "isa": "avx2"})


def tiny(**changes) -> Bench:
    return Bench(**{"batches": (1, 2), "engines": ("harp", "onnxruntime"), "seconds": 0.02, "memory": False} | changes)


@pytest.fixture
def found(net: Path, stand_in) -> Findings:
    pytest.importorskip("onnxruntime")
    return bench(net, tiny())


def test_every_engine_is_measured_in_every_setting(found: Findings):
    measured = [(r.network, r.batch, r.threads, r.engine) for r in found.records]
    assert measured == [("net", batch, 1, name) for batch in (1, 2) for name in ("harp", "onnxruntime")]
    assert {r.keep for r in found.records} == {found.work.keep}
    assert found.peaks == {1: 100.0}
    assert found.advice[0].startswith(("Deploy ", "No recommendation"))
    assert len(found.advice) == 3


def test_records_have_exactly_the_keys_that_are_documented(found: Findings, tmp_path: Path):
    write_records(tmp_path / "records.json", found.records)
    records = json.loads((tmp_path / "records.json").read_text())
    assert [list(record) for record in records] == [list(PUBLIC)] * 4
    assert PUBLIC == ("network", "keep", "batch", "threads", "engine", "median_ms", "best_ms", "peak_mb")
    assert records[0]["median_ms"] == found.records[0].times.median_ms


def test_everything_can_be_written_as_one_object(found: Findings, tmp_path: Path):
    write_findings(tmp_path / "new" / "all.json", found)
    written = json.loads((tmp_path / "new" / "all.json").read_text())
    assert written["records"][0]["times"]["calls"] == found.records[0].times.calls
    assert written["sizes"]["file"] == found.sizes.file


def test_what_is_shown_fits_a_terminal_and_ends_with_advice(found: Findings):
    terminal = Terminal(record=True, width=80, file=io.StringIO())
    show(found, terminal)
    shown = terminal.export_text()
    assert f"{found.work.kept} of {found.work.weights} weights" in shown
    for text in ("onnxruntime", "quartiles", "speed-up", "of peak", "dense float32, zstd -12", found.advice[0][:60]):
        assert text in shown
    assert "…" not in shown


def test_an_absent_engine_is_named_and_the_others_run(net: Path, stand_in, monkeypatch: pytest.MonkeyPatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    found = bench(net, tiny(batches=(1,)))
    assert [r.engine for r in found.records] == ["harp"]
    assert [note for note in found.notes if "pip install '.[bench]'" in note]
    assert found.advice[0].startswith("No recommendation")


@pytest.mark.parametrize("batches", [(), (0,), (1, -8)])
def test_a_batch_of_nothing_is_refused(batches, net: Path):
    with pytest.raises(ValueError, match="none below 1"):
        bench(net, tiny(batches=batches))


def test_the_command_says_what_is_wrong_with_its_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "net.harp").write_bytes(b"something else")
    assert main(["bench", str(tmp_path / "net.harp")]) == 2
    assert "net.harp is not a network that this harp can run" in capsys.readouterr().err
    assert main(["bench", str(tmp_path / "net.harp"), "--threads", "4096"]) == 2
    assert "threads=[4096] must be between 1 and" in capsys.readouterr().err


def test_where_the_findings_go_is_checked_before_anything_is_measured(net: Path, tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "found.json"):
        assert main(["bench", str(net), "--json", str(place)]) == 2
        said = capsys.readouterr()
        assert str(place.parent if place.name == "found.json" else place) in said.err
        assert said.out == ""


def test_the_help_lists_every_flag_without_torch():
    ask = "import sys; from harp.cli import main\ntry: main(['bench', '--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(
        flag in done.stdout for flag in ("--batch", "--threads", "--engines", "--seconds", "--json", "--no-memory")
    )
