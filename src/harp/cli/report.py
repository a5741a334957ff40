"""``harp report``: one page about any number of runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from harp.cli.parsing import parse
from harp.cli.stopping import StopRequest


@dataclass(frozen=True)
class ReportFlags:
    """Write one self-contained HTML page about any number of runs."""

    runs: Positional[Annotated[tuple[Path, ...], arg(metavar="RUN ...")]]
    """Run directories."""
    out: Path = Path("report.html")
    """The page to write; an existing page is replaced."""


def report(arguments: list[str], stop: StopRequest) -> None:
    flags = parse(ReportFlags, "report", arguments, None)
    if not flags.runs:
        raise ValueError("runs is empty: name at least one run directory, e.g. `harp report runs/*`")

    from harp.report import write_report

    print(f"Report: {write_report(flags.runs, flags.out).resolve()}")
