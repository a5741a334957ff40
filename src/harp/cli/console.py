"""What a person sees while work goes on and when it is done: bars in a terminal, now and then a line in a log, tables."""

import logging
import statistics
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console as Terminal
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from harp.cards import Card, Evaluation, read_card
from harp.cli.stopping import StopRequest
from harp.runs.directory import RunDirectory
from harp.stages.watch import Watch
from harp.training.distributed import leads
from harp.training.progress import EpochMetrics, StepProgress

UNTIMED, TIMED = 2, 5
"""The first steps of a stage warm up; the median of the next is what a step takes."""
WORTH_TELLING_S = 60.0
"""Estimates of less are not printed."""
LOG_EVERY_S = 30.0
"""Where no bar can be drawn, a line is printed no more often than this."""


class Console:
    """Draws one bar for the stage or attack under way; everything else scrolls above it."""

    def __init__(self, stop: StopRequest, terminal: Terminal | None = None):
        self.terminal = terminal or Terminal(highlight=False, quiet=not leads())
        self.stop = stop
        self.watch = Watch(
            self._start, self._step, self._epoch, self._images, self._result, self._done, stop, self._note
        )
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[detail]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.terminal,
            expand=True,
            transient=True,
            disable=not self.terminal.is_terminal,
        )
        self._warnings = RichHandler(logging.WARNING, self.terminal, show_time=False, show_path=False)
        self._task: TaskID | None = None
        self._label = ""
        self._accuracy = ""
        self._latest: StepProgress | None = None
        self._times: list[float] = []
        self._logged = time.monotonic()

    def __enter__(self) -> "Console":
        logging.getLogger().addHandler(self._warnings)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what the recipe says already
        self.stop.listen()
        self._bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()
        self.stop.release()
        logging.getLogger().removeHandler(self._warnings)

    def say(self, text: str) -> None:
        self.terminal.print(text, soft_wrap=True)

    def _start(self, label: str, what: str) -> None:
        self.say(f"[bold]{label}[/bold]  {escape(what)}")
        self._label, self._accuracy, self._latest, self._times = label, "", None, []
        self._bar(label, total=None)

    def _step(self, now: StepProgress) -> None:
        self._latest = now
        if len(self._times) < UNTIMED + TIMED:
            self._times.append(now.step_s)
            if len(self._times) == UNTIMED + TIMED:
                self._estimate(now)
        gamma = f"  γ {now.gamma:.3g}" if now.gamma is not None else ""
        density = f"  density {now.density:.2%}" if now.density < 1 else ""
        pace = f"  {now.images_per_s:,.0f} img/s"
        detail = f"epoch {now.epoch + 1}/{now.epochs}  loss {now.loss:.3f}{density}{self._accuracy}{gamma}{pace}"
        self._advance(now.epoch * now.steps + now.step, now.epochs * now.steps, detail)

    def _estimate(self, now: StepProgress) -> None:
        left = (now.epochs - now.epoch) * now.steps - now.step
        step_s = statistics.median(self._times[UNTIMED:])
        if left * step_s > WORTH_TELLING_S:
            self.say(f"  about {duration(left * step_s)}: {left:,} steps of {step_s:.2g} s, validation not counted")

    def _epoch(self, metrics: EpochMetrics) -> None:
        self._accuracy = f"  clean {metrics.clean_accuracy:.1%}  robust {metrics.robust_accuracy:.1%}"
        if self._latest is not None:  # not one of those that an interrupted run had behind it
            density = f"  density {metrics.density:.2%}" if metrics.density < 1 else ""
            self._log(
                f"epoch {metrics.epoch + 1}/{self._latest.epochs}  loss {metrics.loss:.3f}{density}{self._accuracy}"
            )

    def _images(self, attack: str, done: int, images: int) -> None:
        if self._label != attack:
            self._label = attack
            self._bar(attack, total=images)
        self._advance(done, images, f"{done:,} of {images:,} images")
        self._log(f"{attack}: {done:,} of {images:,} images")

    def _note(self, text: str) -> None:
        self.say(f"  {escape(text)}")

    def _result(self, found: Evaluation) -> None:
        self.say(f"  {escape(str(found))}")

    def _done(self, run: RunDirectory) -> None:
        card = read_card(run.card)
        found = card.values.get("validation") or {}
        accuracy = (
            f"; validation: clean {found['clean_accuracy']:.1%}, robust {found['robust_accuracy']:.1%}"
            if found.get("clean_accuracy") is not None
            else ""
        )
        self.say(f"  {card.name}: {_kept(card)} weights{accuracy}; in [bold]{escape(str(run.path))}[/bold]")

    def _bar(self, label: str, total: int | None) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(label, total=total, detail="")

    def _advance(self, done: int, total: int, detail: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, detail=detail)

    def _log(self, line: str) -> None:
        """Where no bar shows that work goes on: a line, but not for every epoch of a short stage."""
        if not self.terminal.is_terminal and time.monotonic() - self._logged > LOG_EVERY_S:
            self._logged = time.monotonic()
            self.say(f"  {escape(line)}")

    def table(self, runs: list[Path]) -> None:
        """Every evaluation of every run, with its 95 % interval."""
        self._bars.stop()
        cards = [read_card(RunDirectory(path).card) for path in runs]
        columns = list(dict.fromkeys(_column(e) for card in cards for e in card.evaluations))
        table = Table(title="Accuracy on test images, % [95 % interval]", title_justify="left")
        table.add_column("network")
        table.add_column("kept weights", justify="right")
        for column in columns:
            table.add_column(column, justify="right")
        for card in cards:
            by_column = {_column(e): e for e in card.evaluations}
            cells = [_accuracy(by_column.get(column)) for column in columns]
            table.add_row(card.name, _kept(card), *cells)
        self.terminal.print(table)
        for card in cards:
            if card.corruptions is not None:
                self.say(f"  {escape(card.name)}: {escape(str(card.corruptions))}")
        notes = [(card, e, text) for card in cards for e in card.evaluations for text in e.notes]
        for note in dict.fromkeys(f"{card.name}, {e.attack}: {text}" for card, e, text in notes):
            self.say(f"  note  {escape(note)}")

    def page(self, path: Path) -> None:
        self._bars.stop()
        self.say(f"Report: [bold]{escape(str(path.resolve()))}[/bold]")


def _column(found: Evaluation) -> str:
    threat = "" if found.eps is None else f"{found.norm} eps {found.eps:.4g}"
    return "\n".join([found.attack, threat, *found.how, f"{found.images:,} images"])


def _kept(card: Card) -> str:
    kept, total = f"{card.kept:,}", f"{card.total:,}"
    return kept if kept == total else f"{kept} of {total}"


def _accuracy(found: Evaluation | None) -> str:
    if found is None:
        return "–"
    chance = " [bold]chance[/bold]" if found.at_chance else ""
    return f"{found.accuracy:.1%} [dim]({found.low:.1%}–{found.high:.1%})[/dim]".replace("%", "") + chance


def duration(seconds: float) -> str:
    """``"3 min"``, ``"2 h 5 min"``."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
