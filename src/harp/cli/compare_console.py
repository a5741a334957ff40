"""What `harp compare` prints: the estimate, the progress, failures, and the table of results."""

import time
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console as Terminal
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from harp.cli.console import duration
from harp.cli.dry_run import about
from harp.cli.stopping import StopRequest
from harp.compare import ComparePlan, FailedJob, Job, Launcher, Todo, finished, run, said, tune, tuned
from harp.dry_run.compare import CompareEstimate, dry_run_compare
from harp.files import write_json
from harp.report import write_compare_report
from harp.report.compare import CompareResults, Group, records
from harp.report.compare_columns import EXTRA_COLUMNS
from harp.report.differences import Difference, OverSeeds
from harp.report.wording import MISSING, count, points


class CompareConsole:
    """Draws one bar for all cells; what ends badly, and, without a terminal, all that ends, scrolls above it."""

    def __init__(self, stop: StopRequest, terminal: Terminal | None = None):
        self.terminal = terminal or Terminal(highlight=False)
        self.stop = stop
        self._bar = Progress(
            TextColumn("[bold]cells"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=self.terminal,
            transient=True,
            disable=not self.terminal.is_terminal,
        )

    def __enter__(self) -> "CompareConsole":
        self.stop.listen()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        self.stop.release()

    def say(self, text: str) -> None:
        self.terminal.print(text, soft_wrap=True)

    def run(self, plan: ComparePlan, todo: Todo, launcher: Launcher, at_a_time: int) -> list[FailedJob]:
        """Run what is outstanding, so many at a time, and say in the end what failed."""
        self.say(announcement(plan, todo))
        jobs = len(todo.first) + len(todo.rest)
        if jobs == 0:
            return []
        cost = dry_run_compare(plan, todo, at_a_time)
        self.say(f"{at_a_time} at a time: about {about(cost.range)}, {cost.of}")
        self._bar.start()
        steps = _Steps(jobs, todo.cells - todo.finished, cost)
        task = self._bar.add_task("", total=todo.cells, completed=todo.finished, left=steps.left())

        def on_done(job: Job, status: int) -> None:
            steps.count()
            self._bar.update(task, advance=float(job.cell is not None and status == 0), left=steps.left())
            state = "done" if status == 0 else "[bold]failed[/bold]"
            if status != 0 or not self.terminal.is_terminal:
                self.say(f"  {escape(job.name)} {state}  {steps.done} of {jobs}  {steps.left()}")

        failures = run(todo, launcher, self.stop, on_done)
        self._bar.stop()
        return failures

    def tune(self, plan: ComparePlan) -> ComparePlan:
        """Choose, and say what was chosen."""
        for line in said([*tuned(plan)]):
            self.say(f"  {escape(line)}")
        return tune(plan)

    def conclude(self, plan: ComparePlan, failures: list[FailedJob], json: Path | None) -> None:
        """The table, the records and the page of what is finished, then what is not."""
        results = finished(plan)
        if results.entries:
            table = table_of(results)
            # Never cut: a log has no width, and a narrow terminal can wrap.
            natural = Measurement.get(self.terminal, self.terminal.options.update(width=1000), table).maximum
            self.terminal.width = max(natural, self.terminal.width)
            self.terminal.print(table, crop=False)
        for caveat in results.caveats:
            self.say(f"  note  {escape(caveat)}")
        if json is not None and results.entries:
            write_json(json, records(results))
        if results.pruned:
            page = write_compare_report(results, plan.out / "report.html")
            self.say(f"Report: [bold]{escape(str(page.resolve()))}[/bold]")
        if failures:
            self.say(f"[bold]{len(failures)} failed[/bold]; the same command tries them again:")
        for each in failures:
            self.say(f"  {escape(f'{each.name}: {each.why}')}\n    log: {escape(str(each.log))}")


class _Steps:
    """Jobs done and time left: at first as estimated, then what the finished ones took."""

    def __init__(self, jobs: int, cells: int, cost: CompareEstimate):
        self.jobs, self.done, self.cost, self.began = jobs, 0, cost, time.monotonic()

    def count(self) -> None:
        self.done += 1

    def left(self) -> str:
        elapsed = time.monotonic() - self.began
        if self.done == self.jobs:
            return ""
        seconds = elapsed / self.done * (self.jobs - self.done) if self.done else self.cost.seconds - elapsed
        return f"{duration(seconds)} left"


def announcement(plan: ComparePlan, todo: Todo) -> str:
    """How many cells there are, and of what."""
    product = [
        f"{len(plan.spellings)} methods ({', '.join(plan.spellings)})",
        f"{len(plan.keeps)} keeps ({', '.join(f'{keep:g}' for keep in plan.keeps)})",
        f"{len(plan.seeds)} seeds",
    ]
    if plan.granularities != ("weight",):
        product.insert(2, f"{len(plan.granularities)} granularities ({', '.join(plan.granularities)})")
    trained = f"; {len(todo.first)} parents to train first" if todo.first else ""
    if todo.trials:
        product.append(f"grid of {' × '.join(f'{len(axis.values)} {axis.name}' for axis in plan.tune)}")
    what = "trials" if todo.trials else "cells"
    return f"[bold]{todo.cells} {what}[/bold]: {' × '.join(product)}; {todo.finished} finished{trained}"


def table_of(results: CompareResults) -> Table:
    """A row for each method, keep and granularity: mean ± spread over seeds, and how it differs from the baseline."""
    table = Table(
        title=f"Accuracy in %, mean ± standard deviation over seeds; {results.images:,} test images per seed",
        title_justify="left",
        caption=f"Δ is the paired difference to {results.baseline} in points, ± half of its 95 % interval; ↑ better and ↓ worse",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    several = len({group.granularity for group in results.pruned}) > 1
    for name in ("method", "keep", *(["of"] if several else []), "kept", "seeds"):
        table.add_column(name, justify="left" if name in ("method", "of") else "right")
    for test in results.tests:
        table.add_column(f"{test.name}\n{test.threat}".strip(), justify="right")
    for test in results.tests:
        table.add_column(f"Δ {test.name}", justify="right")
    for name in results.columns:
        table.add_column(EXTRA_COLUMNS[name].title, justify="right")
    before = None
    for group in results.groups:
        if before is not None and (group.keep, group.granularity) != before:
            table.add_section()
        before = group.keep, group.granularity
        table.add_row(*_row(group, results, several))
    return table


def _row(group: Group, results: CompareResults, several: bool) -> list[str]:
    granularity = [group.granularity] if several else []
    kept = "–".join(count(number) for number in dict.fromkeys((group.kept[0], group.kept[-1])))
    accuracies = [accuracy_text(group.summary(test)) for test in results.tests]
    differences = [difference_text(group.differences.get(test)) for test in results.tests]
    if group.method == results.baseline:
        differences = ["baseline", *differences[1:]]
    extra = [accuracy_text(found) for found in group.extra.values()]
    return [
        group.method,
        f"{group.keep:g}",
        *granularity,
        kept,
        str(len(group.runs)),
        *accuracies,
        *differences,
        *extra,
    ]


def accuracy_text(found: OverSeeds | None) -> str:
    """``"37.4 ± 0.3"``."""
    if found is None:
        return MISSING
    return f"{100 * found.mean:.1f}" + (f" ± {100 * found.spread:.1f}" if found.spread is not None else "")


def difference_text(found: Difference | None) -> str:
    """``"+1.2 ± 0.8 ↑"``; the arrow only where the interval, of seeds enough, lies on one side of 0."""
    if found is None:
        return MISSING
    half = "" if found.high is None else f" ± {100 * (found.high - found.mean):.1f}"
    return points(found.mean) + half + {1: " ↑", 0: "  ", -1: " ↓"}[found.sign]
