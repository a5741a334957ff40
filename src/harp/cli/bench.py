"""``harp bench``: its flags, and its findings as tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table

from harp.bench.engines import NAMES, EngineName
from harp.bench.records import OURS, at, settings_of, short
from harp.cli.parsing import FilePath, parse, refuse_directory, refuse_missing
from harp.cli.stopping import StopRequest

if TYPE_CHECKING:
    from harp.bench.findings import Findings


@dataclass(frozen=True)
class BenchFlags:
    """Time an exported network beside the dense engines that are installed, and recommend what to deploy."""

    net: FilePath
    """A file that `harp export` wrote."""
    batch: tuple[int, ...] = (1, 8, 64)
    """Batch sizes."""
    threads: tuple[int | Literal["all"], ...] = (1, "all")
    """Thread counts; all is one per usable core."""
    engines: tuple[EngineName, ...] = NAMES
    """The engines to time; one that is not installed is skipped, with a line on how to install it."""
    seconds: float = 2.0
    """Seconds, about, to time each engine for each batch size and thread count."""
    memory: bool = True
    """Also measure peak memory, in a fresh process for each engine."""
    json: Path | None = None
    """A JSON file to write all results to."""


def bench(arguments: list[str], stop: StopRequest) -> None:
    flags: BenchFlags = parse(BenchFlags, "bench", arguments, None)
    refuse_missing("net", flags.net, "`harp export RUN --out net.harp`")
    refuse_directory(flags.json)
    if flags.json is not None:
        flags.json.parent.mkdir(parents=True, exist_ok=True)

    from harp.bench.findings import Bench, bench, write_findings
    from harp.bench.race import thread_counts

    terminal = Terminal(highlight=False)
    plan = Bench(flags.batch, thread_counts(flags.threads), flags.engines, flags.seconds, flags.memory)
    found = bench(flags.net, plan, tell=lambda line: terminal.print(f"  {escape(line)}", soft_wrap=True))
    show(found, terminal)
    if flags.json is not None:
        write_findings(flags.json, found)
        terminal.print(f"Written: [bold]{escape(str(flags.json))}[/bold]", soft_wrap=True)


def show(found: "Findings", terminal: Terminal) -> None:
    """What was measured, and last what follows from it."""
    work = found.work
    terminal.print(
        f"\n[bold]{escape(found.network)}[/bold]: {work.kept:,} of {work.weights:,} weights ({work.keep:.2%}), "
        f"{work.macs_left:,} of {work.macs:,} multiplications per image ({work.macs_left / max(1, work.macs):.2%})"
    )
    here = found.here
    peaks = ", ".join(f"{peak:.0f} GFLOP/s on {threads}" for threads, peak in found.peaks.items())
    terminal.print(f"{escape(here['cpu'])}, {here['cores']} cores, {here['isa']}; peak {peaks}")
    measured = [times(found), paces(found), memory(found), sizes(found)]
    terminal.print(*(table for table in measured if table.row_count))
    for note in found.notes:
        terminal.print(f"  note  {escape(note)}", soft_wrap=True)
    advice, *reasons = found.advice
    terminal.print(f"[bold]{escape(advice)}[/bold]", soft_wrap=True)
    for reason in reasons:
        terminal.print(f"  {escape(reason)}", soft_wrap=True)


def times(found: "Findings") -> Table:
    """One row per engine and setting; the speed-up is that of harp over the engine, by medians."""
    table = _table(
        "Time of a batch, ms, all engines in float32",
        "engine",
        "batch",
        "threads",
        "median",
        "quartiles",
        "best",
        "speed-up",
    )
    for setting in settings_of(found.records):
        here = at(found.records, setting)
        ours = next((r for r in here if r.engine == OURS), None)
        for record in here:
            t = record.times
            compared = f"{short(t.median_ms / ours.median_ms)}x" if ours and record is not ours else ""
            table.add_row(
                record.engine, f"{record.batch}", f"{record.threads}", short(t.median_ms),
                f"{short(t.low_ms)}–{short(t.high_ms)}", short(t.best_ms), compared, end_section=record is here[-1],
            )  # fmt: skip
    return table


def paces(found: "Findings") -> Table:
    table = _table("Operations on non-zeros alone", "harp", "GFLOP/s", "of peak")
    for record in found.records:
        if record.engine == OURS:
            pace = found.work.gflops(record.batch, record.median_ms)
            table.add_row(str(record.setting), short(pace), f"{pace / found.peaks[record.threads]:.1%}")
    return table


def memory(found: "Findings") -> Table:
    table = _table("Peak memory at batch 1 on one thread, without imports", "engine", "MB", "of harp's")
    peaks = {record.engine: record.peak_mb for record in found.records if record.peak_mb is not None}
    for engine, peak_mb in peaks.items():
        table.add_row(engine, f"{peak_mb:,.1f}", f"{short(peak_mb / peaks[OURS])}x" if peaks.get(OURS) else "")
    return table


def sizes(found: "Findings") -> Table:
    table = _table("Size", "form", "bytes", "of dense float32")
    s = found.sizes
    forms = {"this file": s.file, "dense float32": s.dense, f"dense float32, {s.compressor}": s.compressed}
    for form, size_bytes in (forms if s.onnx is None else {**forms, "ONNX": s.onnx}).items():
        smaller = s.dense >= 1.01 * size_bytes
        table.add_row(
            form, f"{size_bytes:,}", f"1/{short(s.dense / size_bytes)}" if smaller else short(size_bytes / s.dense)
        )
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
