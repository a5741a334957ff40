"""Run a comparison: parents first, then all cells. A cell that fails does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harp.compare.jobs import Job, Todo
from harp.compare.launchers import Launcher
from harp.runs.directory import RunDirectory

_TAIL_BYTES = 2000


@dataclass(frozen=True)
class FailedJob:
    """A job that did not end well: its last words, and where the others stand."""

    name: str
    why: str
    log: Path


def run(
    todo: Todo, launcher: Launcher, should_stop: Callable[[], bool], on_done: Callable[[Job, int], None]
) -> list[FailedJob]:
    """Run what is outstanding; the jobs that failed. Asked to stop, it stops all of them and raises KeyboardInterrupt."""
    failures: list[FailedJob] = []
    for jobs in (todo.first, todo.rest):
        ready, orphans = _sorted_out(jobs)
        failures += [FailedJob(job.name, f"its parent {job.needs} could not be trained", job.log) for job in orphans]
        for job, status in launcher(ready, should_stop):
            on_done(job, status)
            if status != 0:
                failures.append(FailedJob(job.name, last_words(job.log) or f"exit code {status}", job.log))
    return failures


def _sorted_out(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs that can run, and those whose parent is not there."""
    ready = [job for job in jobs if job.needs is None or RunDirectory(job.needs).finished]
    return ready, [job for job in jobs if job not in ready]


def last_words(log: Path) -> str:
    """The last line of a log that says something."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    return said[-1] if said else ""
