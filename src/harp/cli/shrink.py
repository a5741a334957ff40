"""``harp shrink``: a network without the channels that were pruned, and what it saves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.table import Table

from harp.cli.parsing import AcceptChanges, RunPath, parse
from harp.cli.stopping import StopRequest


@dataclass(frozen=True)
class ShrinkFlags:
    """Remove the pruned channels of a network: the same outputs with fewer multiplications and parameters."""

    run: RunPath
    """The run directory of a network pruned with --granularity channel."""
    out: Path
    """The run directory to write."""
    overwrite: bool = False
    """Replace an existing run."""
    accept_changes: AcceptChanges = False


def shrink(arguments: list[str], stop: StopRequest) -> None:
    flags: ShrinkFlags = parse(ShrinkFlags, "shrink", arguments, None)

    from harp.runs.card import read_card
    from harp.stages.shrink import shrink_run

    run = shrink_run(flags.run, flags.out, overwrite=flags.overwrite, accept_changes=flags.accept_changes)
    terminal, card = Terminal(highlight=False), read_card(run.card)
    terminal.print(f"[bold]{card['name']}[/bold] in {run.path}", soft_wrap=True)
    terminal.print(table_of(card["shrunk"]["before"], card["shrunk"]["after"]))


def table_of(before: dict[str, Any], after: dict[str, Any]) -> Table:
    """What the network cost and costs, one image at a time."""
    table = Table()
    for title in ("", "before", "after", "left"):
        table.add_column(title, justify="left" if not title else "right")
    for name, title in {"macs": "multiply-accumulates", "parameters": "parameters"}.items():
        table.add_row(title, f"{before[name]:,}", f"{after[name]:,}", f"{after[name] / before[name]:.2%}")
    here, there = before["latency_s"], after["latency_s"]
    table.add_row("ms per image, here", f"{here * 1e3:.3g}", f"{there * 1e3:.3g}", f"{there / here:.0%}")
    return table
