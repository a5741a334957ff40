"""Memory and the time to the first result, measured in a process that does nothing else.

Peak memory is the largest resident set while a network is loaded and run three times, minus the one after the
interpreter and the engine's packages were imported. It counts weights in every form the engine makes of them,
activations, threads and the memory mapped from files; what a compiler does in other processes is not in it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from harp.bench.engines import ENGINES, Subject

RUNS = 3
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Probe:
    """``first_s`` is from the open call to the first result, imports not counted. ``peak_mb`` is in 10^6 bytes, None
    where the system does not tell.
    """

    first_s: float
    peak_mb: float | None


def probe(engine: str, subject: Subject, shape: Sequence[int], threads: int) -> Probe:
    """Load and run a network in a fresh process. Raises OSError with the last words of a process that failed."""
    job = [engine, str(subject.file), str(subject.onnx or ""), json.dumps(list(shape)), str(threads)]
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import child; child()", *job], capture_output=True, encoding="utf-8"
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ChildProcessError(f"{engine} failed in a process of its own, where memory is measured: {last}")
    return Probe(**json.loads(done.stdout.splitlines()[-1]))


def run_here(engine: str, subject: Subject, shape: Sequence[int], threads: int) -> Probe:
    """What the child does."""
    for package in ENGINES[engine].imports:
        __import__(package)
    x = np.random.default_rng(0).random(tuple(shape), dtype=np.float32)
    before = _start_counting()
    began = time.perf_counter()
    run = ENGINES[engine].open(subject, shape[0], threads)
    run(x)
    first_s = time.perf_counter() - began
    for _ in range(RUNS - 1):
        run(x)
    peak = _peak_bytes()
    return Probe(first_s, None if before is None or peak is None else (peak - before) / 1e6)


def _start_counting() -> int | None:
    """Forget the peak so far; the resident bytes of now.

    Linux's getrusage would not do: a child inherits the ru_maxrss of the process that started it, however large.
    """
    if not _STATUS.exists():
        return None
    try:
        _RESET.write_text("5")
    except OSError:
        return None  # without it, what importing needed for a moment would count
    return _status_bytes("VmRSS")


def _peak_bytes() -> int | None:
    return _status_bytes("VmHWM") if _STATUS.exists() else None


def _status_bytes(field: str) -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def child() -> None:
    """The program of the child: its arguments are those that :func:`probe` gives, its answer is the last line."""
    engine, file, onnx, shape, threads = sys.argv[1:]
    found = run_here(engine, Subject(Path(file), Path(onnx) if onnx else None), json.loads(shape), int(threads))
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
