"""A line or point chart as plain geometry: page.html.j2 draws it as SVG, nothing here knows markup."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harp.report.wording import shortened

WIDTH, HEIGHT = 380.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 96.0, 14.0, 44.0  # the right margin carries the lines' names
PLOT_WIDTH, PLOT_BOTTOM = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM
LABEL_GAP = 13.0  # between two names, in the same unit as WIDTH
MOST_LABELS = int((PLOT_BOTTOM - TOP) / LABEL_GAP)
LONGEST_LABEL = 16


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """One measured value: where it stands, its interval if it has one, and what a reader sees when pointing at it."""

    x: float
    y: float
    reading: str
    whisker: tuple[float, float] | None = None  # vertical
    across: tuple[float, float] | None = None  # horizontal


@dataclass(frozen=True)
class Series:
    """Marks of one run. `joined` draws a line through them; `dots` draws each of them."""

    label: str
    tone: str
    dash: str
    marks: tuple[Mark, ...]
    joined: bool
    dots: bool

    @property
    def polyline(self) -> str:
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)


@dataclass(frozen=True)
class EndLabel:
    """The name of a series beside its last mark; `text` may be shortened, `full` is not."""

    x: float
    y: float
    text: str
    full: str
    tone: str
    anchor: str = "start"  # SVG text-anchor
    leader: tuple[float, float] | None = None  # the mark that a thin line leads to, where the name stands apart from it


@dataclass(frozen=True)
class Chart:
    title: str
    description: str  # for those who cannot see it
    series: tuple[Series, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    x_title: str
    labels: tuple[EndLabel, ...]
    boundaries: tuple[float, ...] = ()
    bands: tuple[Tick, ...] = ()  # names of stretches of the x axis, written below its ticks


@dataclass(frozen=True)
class Scale:
    """A value axis onto pixels; y grows upwards. Values below a logarithmic axis sit on its lower end."""

    low: float
    high: float
    log: bool = False

    def x(self, value: float) -> float:
        return LEFT + self.part(value) * PLOT_WIDTH

    def y(self, value: float) -> float:
        return PLOT_BOTTOM - self.part(value) * (PLOT_BOTTOM - TOP)

    def part(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        if self.log:
            decades = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [10.0**exponent for exponent in decades]
        step = nice_step((self.high - self.low) / (most - 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, 50, ... (and 0.1, 0.2, ...) that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def linear_scale(values: Sequence[float]) -> Scale:
    """Zero and all values, between round numbers."""
    low, high = min(0.0, *values), max(0.0, *values)
    if high - low < 1e-12:  # nothing that an eye could tell from zero, and a quarter of it may not be a number
        return Scale(0.0, 1.0)
    step = nice_step((high - low) / 4)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


def accuracy_scale(values: Sequence[float]) -> Scale:
    """Round percentages around the values: differences between runs matter more than the distance to zero."""
    steps = 10 if max(values) - min(values) <= 0.5 else 5  # to the whole
    low, high = math.floor(steps * min(values) + 1e-9), math.ceil(steps * max(values) - 1e-9)
    if low == high:  # all on one round number
        low, high = max(0, low - 1), min(steps, low + 1)
    return Scale(low / steps, high / steps)


def close_scale(values: Sequence[float]) -> Scale:
    """Whole percentages closely around the values, for methods that differ by a few points."""
    step = nice_step(max(0.01, (max(values) - min(values)) / 5))
    low, high = math.floor(min(values) / step + 1e-9), math.ceil(max(values) / step - 1e-9)
    return Scale(low * step, max(high, low + 1) * step)


def fraction_scale(values: Sequence[float]) -> Scale:
    """Decades from below the smallest kept fraction up to 1; a fraction of zero does not stretch the axis."""
    smallest = min((value for value in values if value > 0), default=0.1)
    return Scale(10.0 ** min(-1, max(-8, math.floor(math.log10(smallest) + 1e-9))), 1.0, log=True)


def end_labels(series: Sequence[Series], beside_marks: bool = False) -> tuple[EndLabel, ...]:
    """Names at the height of the last marks, moved apart until none overlaps; none at all when they cannot fit.

    They stand in the right margin, or at the upper right of their marks, off the whiskers.
    """
    ends = sorted((each for each in series if each.marks), key=lambda each: each.marks[-1].y)
    if len(ends) > MOST_LABELS:
        return ()
    heights: list[float] = []
    for each in ends:
        wish = each.marks[-1].y - (8 if beside_marks else 0)
        heights.append(max(wish, heights[-1] + LABEL_GAP if heights else TOP))
    floor = PLOT_BOTTOM
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], floor)
        floor = heights[i] - LABEL_GAP
    xs = [each.marks[-1].x + 7 if beside_marks else WIDTH - RIGHT + 8 for each in ends]
    return tuple(
        EndLabel(x, y, shortened(each.label, LONGEST_LABEL), each.label, each.tone)
        for each, x, y in zip(ends, xs, heights, strict=True)
    )


def led_labels(series: Sequence[Series]) -> tuple[EndLabel, ...]:
    """Names in the right margin, each with a line to its mark: for clouds of marks that names would cover."""
    marks = {each.label: each.marks[-1] for each in series if each.marks}
    return tuple(replace(each, leader=(marks[each.full].x, marks[each.full].y)) for each in end_labels(series))


def inside_labels(series: Sequence[Series]) -> tuple[EndLabel, ...]:
    """Names of series that end in the middle of the plot, above their last mark."""
    return tuple(
        EndLabel(
            each.marks[-1].x, each.marks[-1].y - 7, shortened(each.label, LONGEST_LABEL), each.label, each.tone, "end"
        )
        for each in series
        if each.marks
    )
