"""Launching: every job once, so many at a time, whatever becomes of the others; stopping stops all of them."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from harp.cli.stopping import StopRequest
from harp.compare import launchers
from harp.compare.jobs import Job, Todo
from harp.compare.running import last_words, run

# Stands for the command: `ok`, `fail`, or `wait`, which ends when it is told to and notes that it was.
SCRIPT = """
import os, signal, sys, time
word, *rest = sys.argv[1:]
print("began", word, flush=True)
if word == "fail":
    print("harp: no such thing", flush=True)
    sys.exit(2)
if word == "wait":
    def told(number, frame):
        print("saved", flush=True)
        sys.exit(130)
    signal.signal(signal.SIGTERM, told)
    open(rest[0], "w").close()
    time.sleep(60)
if word == "where":
    print(os.getcwd(), os.environ["HARP_PARENT_PID"], rest, flush=True)
"""


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "HARP", (sys.executable, "-c", SCRIPT))


@pytest.fixture
def job(tmp_path: Path):
    def make(name: str, *words: str) -> Job:
        return Job(name, words, tmp_path / "logs" / f"{name}.log")

    return make


def never() -> bool:
    return False


def test_every_job_ends_once_with_its_exit_code(job):
    jobs = [job("a", "ok"), job("b", "fail"), job("c", "ok")]
    ended = list(launchers.local(2)(jobs, never))
    assert sorted((each.name, status) for each, status in ended) == [("a", 0), ("b", 2), ("c", 0)]


def test_no_more_run_at_a_time_than_allowed(job, tmp_path: Path):
    started = [tmp_path / f"{i}" for i in range(3)]
    jobs = [job(f"w{i}", "wait", str(file)) for i, file in enumerate(started)]
    deadline = time.monotonic() + 60

    def two_started() -> bool:
        assert time.monotonic() < deadline
        return started[0].exists() and started[1].exists()

    with pytest.raises(KeyboardInterrupt):
        list(launchers.local(2)(jobs, two_started))
    assert not started[2].exists()


def test_stopping_waits_until_every_job_has_saved(job, tmp_path: Path):
    jobs = [job("w", "wait", str(tmp_path / "started"))]
    with pytest.raises(KeyboardInterrupt):
        list(launchers.local(1)(jobs, (tmp_path / "started").exists))
    assert last_words(jobs[0].log) == "saved"


def test_a_log_begins_with_the_command_and_grows_with_every_try(job):
    one = job("a", "where", "--keep", "a b")
    for _ in range(2):
        list(launchers.local(1)([one], never))
    lines = one.log.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("$")] == ["$ harp where --keep 'a b'"] * 2
    assert lines[2] == f"{os.getcwd()} {os.getpid()} ['--keep', 'a b']"


def test_a_failing_job_is_named_with_its_last_words_and_does_not_stop_the_others(job):
    todo = Todo((), (job("bad", "fail"), job("good", "ok")), finished=0, cells=2)
    seen: list[tuple[str, int]] = []
    failures = run(todo, launchers.local(1), never, lambda each, status: seen.append((each.name, status)))
    assert seen == [("bad", 2), ("good", 0)]
    assert [(each.name, each.why) for each in failures] == [("bad", "harp: no such thing")]
    assert failures[0].log.exists()


def test_a_job_whose_parent_could_not_be_made_is_not_tried(job, tmp_path: Path):
    child = Job("child", ("ok",), tmp_path / "child.log", needs=tmp_path / "dense")
    failures = run(Todo((job("dense", "fail"),), (child,), 0, 1), launchers.local(1), never, lambda *_: None)
    assert [each.name for each in failures] == ["dense", "child"]
    assert "could not be trained" in failures[1].why
    assert not child.log.exists()


def test_a_job_that_loses_its_parent_process_is_asked_to_stop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARP_PARENT_PID", str(os.getppid()))
    stop = StopRequest()
    assert not stop()
    assert "HARP_PARENT_PID" not in os.environ  # or the processes that this one starts would take it for theirs
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert stop()


def test_without_a_parent_that_watches_nothing_stops_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HARP_PARENT_PID", raising=False)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert not StopRequest()()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm_jobs_are_submitted_as_one_array_and_report_their_exit_codes(job, tmp_path: Path):
    """By submitit's executor for debugging, which takes the same calls and leaves its log files open."""
    submitit = pytest.importorskip("submitit")
    parameters = {"timeout_min": 5}
    launch = launchers.slurm(submitit, parameters, cluster="debug")
    ended = list(launch([job("a", "ok"), job("b", "fail")], never))
    assert [(each.name, status) for each, status in ended] == [("a", 0), ("b", 2)]
    assert last_words(job("b").log) == "harp: no such thing"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_slurm_option_that_does_not_exist_is_named(job):
    submitit = pytest.importorskip("submitit")
    launch = launchers.slurm(submitit, {"timeout_minutes": 5}, cluster="local")
    with pytest.raises(ValueError, match="timeout_minutes"):
        list(launch([job("a", "ok")], never))


def test_away_from_a_slurm_cluster_its_launcher_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(launchers, "_package", lambda name, extra: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="launcher='slurm' needs srun, which is not on the path"):
        launchers.make_launcher("slurm", None, (), 1)


@pytest.mark.slow
def test_ray_runs_the_jobs_on_a_cluster_of_this_machine_and_stops_them(job, tmp_path: Path):
    ray = pytest.importorskip("ray")
    launch = launchers.ray(ray, 2, {"num_cpus": 1})
    handler = signal.getsignal(signal.SIGTERM)
    # A cluster imports harp anew and does not know of the script: the real commands answer.
    ended = list(launch([job("a", "presets"), job("b", "evaluate", str(tmp_path))], never))
    assert sorted((each.name, status) for each, status in ended) == [("a", 0), ("b", 2)]
    assert "is not a run directory" in last_words(job("b").log)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not ray.is_initialized()
