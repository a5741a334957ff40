"""``harp bench``: its flags, and its findings as tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional

from ..benching.engines import NAMES, EngineName
from ..benching.records import OURS, Record, at, settings_of

if TYPE_CHECKING:
    from ..benching.findings import Findings
    from .main import StopRequest


@dataclass(frozen=True)
class BenchFlags:
    """Time an exported network against the dense engines that are installed, and say what to deploy."""

    net: Positional[Path]
    """A file that `harp export` wrote."""
    batch: tuple[int, ...] = (1, 8, 64)
    """How many images at once."""
    threads: tuple[int | Literal["all"], ...] = (1, "all")
    """How many threads; all is one for each core that may be used."""
    engines: tuple[EngineName, ...] = NAMES
    """Which engines take part; what is not installed is left out, with a line saying how to get it."""
    seconds: float = 2.0
    """About how long each engine is timed for each batch and number of threads."""
    memory: bool = True
    """Measure peak memory too, in a fresh process for each engine."""
    json: Path | None = None
    """A file to write everything measured to."""


def bench(arguments: list[str], stop: "StopRequest") -> None:
    from .commands import _parse

    flags: BenchFlags = _parse(BenchFlags, "bench", arguments, None)

    from ..benching.findings import Plan, bench, write_findings
    from ..benching.race import thread_counts

    terminal = Terminal(highlight=False)
    plan = Plan(flags.batch, thread_counts(flags.threads), flags.engines, flags.seconds, flags.memory)
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
        f"{work.macs_left:,} of {work.macs:,} multiplications an image ({work.macs_left / max(1, work.macs):.2%})"
    )
    here = found.here
    peaks = ", ".join(f"{peak:.0f} GFLOP/s on {threads}" for threads, peak in found.peaks.items())
    terminal.print(f"{escape(here['cpu'])}, {here['cores']} cores, {here['isa']}; peak {peaks}")
    terminal.print(times(found), sizes(found))
    for note in found.notes:
        terminal.print(f"  note  {escape(note)}", soft_wrap=True)
    advice, *reasons = found.advice
    terminal.print(f"[bold]{escape(advice)}[/bold]", soft_wrap=True)
    for reason in reasons:
        terminal.print(f"  {escape(reason)}", soft_wrap=True)


def times(found: "Findings") -> Table:
    """One row an engine and setting. "harp is" compares medians with ours; the last columns are ours alone."""
    table = Table(title="Time of a batch, ms", title_justify="left")
    for name in ("batch", "threads"):
        table.add_column(name, justify="right")
    table.add_column("engine")
    for name in ("median", "quartiles", "best", "harp is", "GFLOP/s", "of peak", "memory, MB"):
        table.add_column(name, justify="right")
    for setting in settings_of(found.records):
        here = at(found.records, setting)
        ours = next((r for r in here if r.engine == OURS), None)
        for record in here:
            table.add_row(*_row(found, record, ours), end_section=record is here[-1])
    return table


def _row(found: "Findings", record: Record, ours: Record | None) -> list[str]:
    if record.engine == OURS:
        pace = found.work.gflops(record.batch, record.median_ms)
        compared, share = ["", f"{pace:.3g}"], f"{pace / found.peaks[record.threads]:.1%}"
    else:
        compared = [f"{record.median_ms / ours.median_ms:.3g}x faster" if ours else "", ""]
        share = ""
    t = record.times
    spread = f"{t.low_ms:.3g}–{t.high_ms:.3g}"
    memory = "–" if record.peak_mb is None else f"{record.peak_mb:,.1f}"
    return [
        f"{record.batch}", f"{record.threads}", record.engine, f"{t.median_ms:.3g}", spread, f"{t.best_ms:.3g}",
        *compared, share, memory,
    ]  # fmt: skip


def sizes(found: "Findings") -> Table:
    table = Table(title="Size", title_justify="left")
    table.add_column("form")
    table.add_column("bytes", justify="right")
    table.add_column("of dense float32", justify="right")
    s = found.sizes
    forms = {"this file": s.file, "dense float32": s.dense, f"dense float32, {s.compressor}": s.compressed}
    for form, size_bytes in {**forms, "ONNX": s.onnx}.items():
        table.add_row(form, f"{size_bytes:,}", f"1/{s.dense / size_bytes:.3g}")
    return table
