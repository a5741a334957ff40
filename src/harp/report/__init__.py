"""One self-contained HTML page about any number of runs: reads files only, imports no torch, needs no network."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from harp.files import write_bytes
from harp.report.compare import CompareResults
from harp.report.compare_page import render_compare_report
from harp.report.family import PAGES, read_family
from harp.report.page import render_page

__all__ = ["write_compare_report", "write_report"]


def write_report(runs: Sequence[Path], out: Path, *, date: datetime.date | None = None) -> Path:
    """Write the report of some run directories to `out` and return it; an existing page is replaced, atomically.

    Metrics, evaluations and examples may be missing; parents of the runs are read, too, when they are still there.
    The same runs and the same `date` (today when None) give the same bytes.
    Raises ValueError when there is no run, a directory is not a run, or a file is damaged: it names the file.
    """
    if not runs:
        raise ValueError("runs is empty, expected at least one run directory: harp report runs/*")
    if out.suffix.lower() not in PAGES or out.is_dir():
        raise ValueError(f"out is {str(out)!r}, expected the name of an HTML file, such as report.html")
    family = read_family(runs)
    if not family.given:
        raise ValueError("runs names no run directory, only HTML files: harp report runs/*")
    return _write(out, render_page(family, date or datetime.date.today()))


def write_compare_report(results: CompareResults, out: Path, *, date: datetime.date | None = None) -> Path:
    """Write the page of a comparison, as :func:`write_report` does. Raises ValueError when no pruned network is done."""
    if not results.pruned:
        raise ValueError("results holds no pruned network that is finished; there is nothing to compare")
    return _write(out, render_compare_report(results, date or datetime.date.today()))


def _write(out: Path, page: str) -> Path:
    # A JSON text may smuggle in lone surrogates, which UTF-8 cannot say; a character reference can.
    write_bytes(out, page.encode("utf-8", errors="xmlcharrefreplace"))
    return out
