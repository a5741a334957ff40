"""Where the commands run: on this machine, on a SLURM cluster by submitit, or on a Ray cluster."""

import importlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from harp.compare.jobs import Job

LauncherName = Literal["local", "slurm", "ray"]
Launcher = Callable[[Sequence[Job], Callable[[], bool]], Iterator[tuple[Job, int]]]
"""(jobs, should_stop) → each job with its exit code, as it ends. Asked to stop it stops all and raises KeyboardInterrupt."""

POLL_S = 0.1
HARP = (sys.executable, "-P", "-m", "harp.cli")
_LONGEST_MIN = 24 * 60
"""What SLURM is asked for when nothing is said; a cell that is cut off goes on when the command is given again."""


def make_launcher(name: LauncherName, jobs: int | None, options: Sequence[str], threads: int) -> Launcher:
    """The launcher of this name for ``jobs`` at a time. Raises ValueError for options and packages that are not there."""
    settings = _settings(options)
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs={jobs} must be at least 1")
    if name == "local":
        if settings:
            raise ValueError(f"launcher_options={options} are for slurm and ray; the local launcher takes --jobs")
        return local(jobs or cores())
    if name == "slurm":
        submitit = _package("submitit", "slurm")
        if shutil.which("srun") is None:
            raise ValueError(
                "launcher='slurm' needs srun, which is not on the path: give the command on a cluster's node"
            )
        return slurm(submitit, slurm_parameters(jobs, threads, settings))
    return ray(_package("ray", "ray"), jobs, {"num_cpus": threads, **settings})


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(processes: int) -> Launcher:
    """Up to so many processes of this machine. They stop when this one is told to, and when it dies."""

    def launch(jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        waiting, running = list(reversed(jobs)), dict[Job, subprocess.Popen[bytes]]()
        try:
            while waiting or running:
                if should_stop():
                    raise KeyboardInterrupt("stopped in a comparison")
                while waiting and len(running) < processes:
                    job = waiting.pop()
                    running[job] = start(job.words, str(job.log), os.getcwd(), os.environ)
                ended = [(job, status) for job, process in running.items() if (status := process.poll()) is not None]
                for job, status in ended:
                    del running[job]
                    yield job, status
                time.sleep(0.0 if ended else POLL_S)
        finally:
            stop(running.values())

    return launch


def slurm(submitit: Any, parameters: Mapping[str, Any], cluster: str = "slurm") -> Launcher:
    """One job array. The directories must be on a file system that all nodes share."""

    def launch(jobs: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        if not jobs:
            return
        executor = submitit.AutoExecutor(folder=jobs[0].log.parent / "slurm", cluster=cluster)
        try:
            executor.update_parameters(**parameters)
        except NameError as error:  # what submitit raises for a name that it does not know
            raise ValueError(f"launcher_options={parameters} are not all options of submitit: {error}") from error
        with executor.batch():
            handles = [executor.submit(run_command, *_remote(job)) for job in jobs]
        waiting = dict(zip(jobs, handles, strict=True))
        try:
            while waiting:
                if should_stop():
                    raise KeyboardInterrupt("stopped in a comparison")
                ended = [job for job, handle in waiting.items() if handle.done()]
                for job in ended:
                    handle = waiting.pop(job)
                    yield job, _result(job, handle.result, submitit.core.utils.UncompletedJobError)
                time.sleep(0.0 if ended else 10 * POLL_S)
        finally:
            for handle in waiting.values():
                handle.cancel(check=False)

    return launch


def slurm_parameters(jobs: int | None, threads: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What submitit is told: a core a thread, ``jobs`` at a time, and whatever the user adds or has otherwise."""
    at_a_time = {} if jobs is None else {"slurm_array_parallelism": jobs}
    return {"name": "harp", "cpus_per_task": threads, "timeout_min": _LONGEST_MIN, **at_a_time, **settings}


def ray(package: Any, jobs: int | None, options: Mapping[str, Any]) -> Launcher:
    """Tasks of a Ray cluster: the one that RAY_ADDRESS names, or one on this machine that lives as long as this call."""

    def launch(todo: Sequence[Job], should_stop: Callable[[], bool]) -> Iterator[tuple[Job, int]]:
        ours = not package.is_initialized()
        if ours:
            handler = signal.getsignal(signal.SIGTERM)
            package.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
            signal.signal(signal.SIGTERM, handler)  # ray takes it for itself
        task = package.remote(run_command).options(max_retries=0, **options)
        waiting, running = list(reversed(todo)), dict[Any, Job]()
        try:
            while waiting or running:
                if should_stop():
                    raise KeyboardInterrupt("stopped in a comparison")
                while waiting and (jobs is None or len(running) < jobs):
                    job = waiting.pop()
                    running[task.remote(*_remote(job))] = job
                for reference in package.wait(list(running), num_returns=1, timeout=10 * POLL_S)[0]:
                    job = running.pop(reference)
                    yield job, _result(job, lambda ref=reference: package.get(ref), package.exceptions.RayError)
        finally:
            for reference in running:
                package.cancel(reference)
            if running:
                package.wait(list(running), num_returns=len(running), timeout=60)
            if ours:
                package.shutdown()

    return launch


def start(words: Sequence[str], log: str, directory: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process for one command, in a session of its own, so that Ctrl-C reaches it once and through its parent."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("ab") as out:
        out.write(f"$ {shlex.join(['harp', *words])}\n".encode())
        out.flush()
        return subprocess.Popen(
            [*HARP, *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**environment, "HARP_PARENT_PID": str(os.getpid())},
            start_new_session=True,
        )


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask processes to write their state and end; whoever is not patient enough to wait kills them."""
    processes = list(processes)
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.kill()


def run_command(words: Sequence[str], log: str, directory: str, environment: Mapping[str, str]) -> int:
    """One command from start to end, on whatever machine this is called; its exit code."""
    process = start(words, log, directory, {**os.environ, **environment})
    try:
        return process.wait()
    finally:
        stop([process])


def _remote(job: Job) -> tuple[tuple[str, ...], str, str, dict[str, str]]:
    """The arguments of :func:`run_command` that mean the same on every machine with the same file system."""
    carried = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return job.words, str(job.log.resolve()), os.getcwd(), carried


def _result(job: Job, result: Callable[[], int], failures: type[Exception]) -> int:
    """The exit code; 1, and a line in the log, when the engine lost the job."""
    try:
        return result()
    except failures as error:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a", encoding="utf-8") as log:
            log.write(f"{type(error).__name__}: {error}\n")
        return 1


def _settings(options: Sequence[str]) -> dict[str, Any]:
    """``("timeout_min=60", "slurm_partition=long")`` as a dict, numbers as numbers."""
    pairs = [option.partition("=") for option in options]
    wrong = [option for option, (name, equals, _) in zip(options, pairs, strict=True) if not (name and equals)]
    if wrong:
        raise ValueError(f"launcher_options={wrong} must be NAME=VALUE, such as slurm_partition=long")
    return {name: _value(text) for name, _, text in pairs}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"launcher={extra!r} needs the package {name}, which is not installed: pip install '.[{extra}]' in a checkout of harp"
        ) from error
