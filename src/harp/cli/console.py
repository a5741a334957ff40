"""What a person sees while work goes on and when it is done: progress bars and tables."""

import logging
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ..checkpoint import RunDirectory, read_json
from ..stages import Watch
from ..training import EpochMetrics, StepProgress

if TYPE_CHECKING:
    from .main import StopRequest

ESTIMATE_AFTER = 5
"""Timed steps before the estimate of a stage's cost is printed."""


class Console:
    """Draws one bar for the stage or attack under way; everything else scrolls above it."""

    def __init__(self, stop: "StopRequest"):
        self.terminal = Terminal(highlight=False)
        self.stop = stop
        self.watch = Watch(self._start, self._step, self._epoch, self._images, stop)
        self._bars = Progress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.terminal,
        )
        self._task: TaskID | None = None
        self._label = ""
        self._accuracy = ""
        self._timed = 0

    def __enter__(self) -> "Console":
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        self.stop.listen()
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def _start(self, label: str, what: str) -> None:
        self.terminal.print(f"[bold]{label}[/bold]  {what}")
        self._label, self._accuracy, self._timed = label, "", 0
        self._bar(label, total=None)

    def _step(self, now: StepProgress) -> None:
        self._timed += 1
        if self._timed == ESTIMATE_AFTER:
            self._estimate(now)
        gamma = f"  γ {now.gamma:.3g}" if now.gamma is not None else ""
        density = f"  density {now.density:.3%}" if now.density < 1 else ""
        detail = f"epoch {now.epoch + 1}/{now.epochs}  loss {now.loss:.3f}{self._accuracy}{density}{gamma}  {now.images_per_s:,.0f} img/s"
        self._advance(now.epoch * now.steps + now.step, now.epochs * now.steps, detail)

    def _estimate(self, now: StepProgress) -> None:
        left = (now.epochs - now.epoch) * now.steps - now.step
        seconds = left * now.seconds_a_step
        if seconds > 60:
            self.terminal.print(
                f"  about {_duration(seconds)}: {left:,} steps of {now.seconds_a_step:.2g} s, validation not counted"
            )

    def _epoch(self, metrics: EpochMetrics) -> None:
        self._accuracy = f"  clean {metrics.clean_accuracy:.1%}  robust {metrics.robust_accuracy:.1%}"

    def _images(self, attack: str, done: int, images: int) -> None:
        if self._label != attack:
            self._label = attack
            self._bar(attack, total=images)
        self._advance(done, images, f"{done:,} of {images:,} images")

    def _bar(self, label: str, total: int | None) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(label, total=total, detail="")

    def _advance(self, done: int, total: int, detail: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, detail=detail)

    def finished(self, run: RunDirectory) -> None:
        card = read_json(run.card)
        self._bars.stop()
        self.terminal.print(
            f"{card['name']}: kept {card['kept']:,} of {card['total']:,} weights, in [bold]{run.path}[/bold]"
        )

    def table(self, runs: list[Path]) -> None:
        """Every evaluation of every run, with its 95 % interval."""
        self._bars.stop()
        cards = [read_json(RunDirectory(path).card) for path in runs]
        columns = list(dict.fromkeys(_column(e) for card in cards for e in card["evaluations"]))
        table = Table(title="Accuracy on test images, % [95 % interval]", title_justify="left")
        table.add_column("network")
        table.add_column("kept weights", justify="right")
        for column in columns:
            table.add_column(column, justify="right")
        for card in cards:
            found = {_column(e): e for e in card["evaluations"]}
            cells = [_accuracy(found.get(column)) for column in columns]
            table.add_row(card["name"], f"{card['kept']:,} of {card['total']:,}", *cells)
        self.terminal.print(table)
        for note in dict.fromkeys(f"{c['name']}: {n}" for c in cards for e in c["evaluations"] for n in e["notes"]):
            self.terminal.print(f"  note  {note}")

    def page(self, path: Path) -> None:
        self._bars.stop()
        self.terminal.print(f"Report: [bold]{path.resolve()}[/bold]", soft_wrap=True)


def _column(evaluation: dict[str, Any]) -> str:
    attack = evaluation["attack"]
    return "clean" if attack == "clean" else f"{attack}\n{evaluation['norm']} eps {evaluation['eps']:.4g}"


def _accuracy(evaluation: dict[str, Any] | None) -> str:
    if evaluation is None:
        return "–"
    return f"{evaluation['accuracy']:.1%} [{evaluation['low']:.1%}, {evaluation['high']:.1%}]".replace("%", "")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
