"""Training over epochs: density, gamma, loss and accuracies, the stages of a lineage side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harp.report.chart import (
    LEFT,
    PLOT_WIDTH,
    Chart,
    Mark,
    Scale,
    Series,
    Tick,
    accuracy_scale,
    end_labels,
    fraction_scale,
    inside_labels,
    linear_scale,
)
from harp.report.family import STAGES, Family, Look
from harp.report.reading import Epoch, Run
from harp.report.wording import percent, share, whole_percent

NARROWEST_STAGE = 0.22  # of the plot's width: room for its name


@dataclass(frozen=True)
class Timeline:
    """Stages side by side, each as wide as its longest run, so that all runs share their boundaries."""

    starts: Mapping[str, float]
    widths: Mapping[str, float]
    epochs: Mapping[str, int]

    def x(self, run: Run, epoch: Epoch) -> float:
        return self.starts[run.stage] + (epoch.epoch + 0.5) / self.epochs[run.stage] * self.widths[run.stage]


def _timeline(runs: Sequence[Run]) -> Timeline:
    order = {stage: i for i, stage in enumerate(STAGES)}
    stages = sorted({run.stage for run in runs}, key=lambda stage: (order.get(stage, len(order)), stage))
    epochs = {stage: max(run.epochs[-1].epoch + 1 for run in runs if run.stage == stage) for stage in stages}
    shares = {stage: max(epochs[stage] / sum(epochs.values()), NARROWEST_STAGE) for stage in stages}
    widths = {stage: PLOT_WIDTH * shares[stage] / sum(shares.values()) for stage in stages}
    starts = {stage: LEFT + sum(widths[before] for before in stages[:i]) for i, stage in enumerate(stages)}
    return Timeline(starts, widths, epochs)


@dataclass(frozen=True)
class Quantity:
    """Something recorded each epoch: its name, its axis, how one value reads."""

    title: str
    value: Callable[[Epoch], float | None]
    scale: Callable[[Sequence[float]], Scale]
    text: Callable[[float], str]
    tick: Callable[[float], str]


QUANTITIES = (
    Quantity("Density: fraction of weights kept", lambda epoch: epoch.density, fraction_scale, share, share),
    Quantity("γ: weight of the budget", lambda epoch: epoch.gamma, linear_scale, "{:.3g}".format, "{:g}".format),
    Quantity("Training loss", lambda epoch: epoch.loss, linear_scale, "{:.3g}".format, "{:g}".format),
    Quantity("Clean accuracy, validation", lambda epoch: epoch.clean_accuracy, accuracy_scale, percent, whole_percent),
    Quantity(
        "Robust accuracy, validation", lambda epoch: epoch.robust_accuracy, accuracy_scale, percent, whole_percent
    ),
    Quantity(
        "Accuracy on the training attack", lambda epoch: epoch.train_accuracy, accuracy_scale, percent, whole_percent
    ),
)


def epoch_charts(family: Family, looks: Mapping[Run, Look]) -> tuple[Chart, ...]:
    """One chart for each quantity that any run, or any ancestor of a run, recorded."""
    runs = [run for run in looks if run.epochs]
    if not runs:
        return ()
    timeline = _timeline(runs)
    looks = {run: _look_of_lineage(run, family, looks) for run in runs}
    drawn = (_epoch_chart(quantity, runs, timeline, family, looks) for quantity in QUANTITIES)
    return tuple(chart for chart in drawn if chart is not None)


def _look_of_lineage(run: Run, family: Family, looks: Mapping[Run, Look]) -> Look:
    """A stage that leads to one run only is drawn, and named, as that run."""
    ends = [tip for tip in family.tips() if tip is run or run in family.ancestors(tip)]
    return looks[ends[0]] if len(ends) == 1 and ends[0].method == run.method else looks[run]


def _epoch_chart(
    quantity: Quantity, runs: Sequence[Run], timeline: Timeline, family: Family, looks: Mapping[Run, Look]
) -> Chart | None:
    values = [value for run in runs for epoch in run.epochs if (value := quantity.value(epoch)) is not None]
    if not values:
        return None
    scale = quantity.scale(values)
    lines = {run: _epoch_series(quantity, run, timeline, scale, looks[run]) for run in runs}
    drawn = {run: series for run, series in lines.items() if series.marks}
    # A name stands at the end of each lineage; its earlier stages have the same colour, but dense parents their own.
    continued = {ancestor for run in drawn for ancestor in family.ancestors(run)}
    ends = [series for run, series in drawn.items() if run not in continued]
    parents = [series for run, series in drawn.items() if run in continued and run.method is None]
    finals = [f"{each.label} ends at {each.marks[-1].reading.rpartition(': ')[2]}" for each in drawn.values()]
    return Chart(
        title=quantity.title,
        description=f"{quantity.title}, over epochs. {'; '.join(finals)}.",
        series=tuple(drawn.values()),
        y_ticks=tuple(Tick(scale.y(value), quantity.tick(value)) for value in scale.ticks()),
        x_ticks=(),
        x_title="",
        labels=end_labels(ends) + inside_labels(parents),
        boundaries=tuple(timeline.starts.values())[1:],
        bands=tuple(
            Tick(
                timeline.starts[stage] + timeline.widths[stage] / 2,
                f"{stage}\n{epochs} {'epoch' if epochs == 1 else 'epochs'}",
            )
            for stage, epochs in timeline.epochs.items()
        ),
    )


def _epoch_series(quantity: Quantity, run: Run, timeline: Timeline, scale: Scale, look: Look) -> Series:
    marks = tuple(
        Mark(timeline.x(run, epoch), scale.y(value), f"{run.stage}, epoch {epoch.epoch + 1}: {quantity.text(value)}")
        for epoch in run.epochs
        if (value := quantity.value(epoch)) is not None
    )
    return Series(look.label, look.tone, look.dash, marks, joined=len(marks) > 1, dots=len(marks) == 1)
