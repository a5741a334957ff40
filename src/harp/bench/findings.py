"""One exported network against every dense engine: times, memory, sizes, and what follows."""

import contextlib
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harp.bench.advice import recommend
from harp.bench.engines import ENGINES, NAMES, Subject, absence, can_write_onnx
from harp.bench.probe import probe
from harp.bench.race import Entrant, Race, busy, race
from harp.bench.records import OURS, Record
from harp.bench.work import Sizes, Work, sizes_of, work_of
from harp.files import write_json
from harp.runtime import isa, peak_gflops
from harp.runtime.format import read


@dataclass(frozen=True)
class Findings:
    """What `harp bench` shows. ``notes`` say which engines are left out and why; ``peaks`` are GFLOP/s by threads."""

    network: str
    work: Work
    sizes: Sizes
    records: list[Record]
    peaks: dict[int, float]
    here: dict[str, Any]
    notes: list[str]
    advice: list[str]


@dataclass(frozen=True)
class Bench:
    """What to measure: every batch with every thread count, about ``seconds`` for each engine in each."""

    batches: Sequence[int] = (1, 8, 64)
    threads: Sequence[int] = (1,)
    engines: Sequence[str] = NAMES
    seconds: float = 2.0
    memory: bool = True


def bench(file: Path, plan: Bench, *, tell: Callable[[str], object] = lambda line: None) -> Findings:
    """Time a ``.harp`` file against dense engines on the same weights. ``tell`` hears what is being done.

    Raises ValueError when a result is wrong, the file is damaged, or the plan is not possible.
    """
    wrong = [batch for batch in plan.batches if batch < 1]
    if wrong or not plan.batches:
        raise ValueError(f"batches={list(plan.batches)} must name at least one batch size, none below 1")
    if (reason := absence(OURS)) is not None:
        raise ValueError(reason)
    disturbed = busy()
    notes = [disturbed] if disturbed else []
    notes += [reason for name in plan.engines if (reason := absence(name))]
    names = [name for name in plan.engines if absence(name) is None]
    graph, _ = read(file)
    work = work_of(graph)
    with tempfile.TemporaryDirectory(prefix="harp-bench-") as folder:
        tell("dense ONNX of the same weights")
        subject = Subject(file, write_dense(file, Path(folder) / "dense.onnx") if can_write_onnx() else None)
        sizes = sizes_of(file, graph, subject.onnx)
        peaks_mb = memory_of(names, subject, graph.input, tell) if plan.memory else {}
        records = []
        for threads in plan.threads:
            for batch in plan.batches:
                tell(f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}: {', '.join(names)} in turns")
                settings = Race(graph.input, batch, threads, plan.seconds)
                found = race({name: Entrant(name, subject) for name in names}, settings)
                records += [
                    Record(file.stem, work.keep, batch, threads, name, times, peaks_mb.get(name))
                    for name, times in found.items()
                ]
    peaks = {threads: peak_gflops(threads) for threads in plan.threads}
    return Findings(
        file.stem, work, sizes, records, peaks, surroundings(), notes, recommend(records, disturbed is not None)
    )


def write_findings(path: Path, found: Findings) -> None:
    """Everything, as one JSON object."""
    write_json(path, {**asdict(found), "keep": found.work.keep})


def memory_of(
    names: Sequence[str], subject: Subject, image: Sequence[int], tell: Callable[[str], object]
) -> dict[str, float | None]:
    """Peak memory of each engine at batch 1 on one thread, each in a fresh process."""
    found = {}
    for name in names:
        tell(f"memory of {name}, in a process of its own")
        found[name] = probe(name, subject, (1, *image), threads=1).peak_mb
    return found


def write_dense(file: Path, onnx: Path) -> Path:
    """The network of a ``.harp`` file as ONNX, with dense weights and for any batch size."""
    import torch

    from harp.exporting import rebuild, write_onnx

    graph, _ = read(file)
    write_onnx(rebuild(graph), torch.zeros(1, *graph.input), onnx)
    return onnx


def surroundings() -> dict[str, Any]:
    """Hardware and versions, so that a time can be put in its place."""
    from harp.environment import environment

    found = environment()
    found["isa"] = isa()
    found["machine"] = platform.machine()
    for package in sorted({package for name in NAMES for package in ENGINES[name].imports if "." not in package}):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
