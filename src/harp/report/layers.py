"""How much of each layer every run kept, as bars on one logarithmic axis, and how learned fractions got there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harp.report.chart import LEFT, PLOT_WIDTH, Chart, Mark, Scale, Series, Tick, end_labels, fraction_scale
from harp.report.family import Family, Look
from harp.report.reading import Run
from harp.report.wording import count, share


@dataclass(frozen=True)
class Bar:
    text: str
    hover: str
    width: float  # percent of the column


@dataclass(frozen=True)
class LayerRow:
    name: str
    total: str
    bars: tuple[Bar | None, ...]


@dataclass(frozen=True)
class LayerBars:
    """Rows are layers in network order, columns are runs; every column has the same logarithmic axis."""

    columns: tuple[tuple[Look, str, float], ...]  # look, keep over all layers, and where it stands on the axis
    rows: tuple[LayerRow, ...]
    ticks: tuple[Tick, ...]


def layer_bars(family: Family, looks: Mapping[Run, Look]) -> LayerBars | None:
    """None when no run says how much it kept of each layer."""
    runs = [run for run in family.tips() if run.method is not None and run.layers and run.total]
    if not runs:
        return None
    fractions = [layer.kept / layer.total for run in runs for layer in run.layers.values() if layer.total]
    scale = fraction_scale([*fractions, *(run.kept / run.total for run in runs)])
    names = dict.fromkeys(name for run in runs for name in run.layers)
    return LayerBars(
        columns=tuple(
            (looks[run], share(run.kept / run.total), 100 * scale.part(run.kept / run.total)) for run in runs
        ),
        rows=tuple(
            LayerRow(name, _layer_total(name, runs), tuple(_bar(run, name, looks[run], scale) for run in runs))
            for name in names
        ),
        ticks=tuple(Tick(100 * scale.part(value), share(value)) for value in scale.ticks()),
    )


def _layer_total(name: str, runs: Sequence[Run]) -> str:
    totals = {run.layers[name].total for run in runs if name in run.layers}
    return " or ".join(count(total) for total in sorted(totals))


def _bar(run: Run, name: str, look: Look, scale: Scale) -> Bar | None:
    layer = run.layers.get(name)
    if layer is None or layer.total == 0:
        return None
    fraction = layer.kept / layer.total
    hover = f"{look.label}, {name}: {count(layer.kept)} of {count(layer.total)} weights kept ({share(fraction)})"
    return Bar(share(fraction), hover, 100 * scale.part(fraction) if layer.kept else 0.0)


def layer_charts(family: Family, looks: Mapping[Run, Look]) -> tuple[Chart, ...]:
    """One chart for each run whose keep fractions moved: a line for each layer, all of them over the run's epochs."""
    return tuple(_layer_chart(run, looks[run]) for run in looks if _moved(run))


def _moved(run: Run) -> bool:
    recorded = [epoch.layers for epoch in run.epochs if epoch.layers]
    return any(layers != recorded[0] for layers in recorded)


def _layer_chart(run: Run, look: Look) -> Chart:
    epochs = [epoch for epoch in run.epochs if epoch.layers]
    names = dict.fromkeys(name for epoch in epochs for name in epoch.layers)
    scale = fraction_scale([fraction for epoch in epochs for fraction in epoch.layers.values()])
    last = run.epochs[-1].epoch + 1
    series = tuple(
        Series(
            label=name.removesuffix(".weight"),
            tone=look.tone,
            dash="",
            marks=tuple(
                Mark(
                    x=LEFT + (epoch.epoch + 0.5) / last * PLOT_WIDTH,
                    y=scale.y(epoch.layers[name]),
                    reading=f"epoch {epoch.epoch + 1}: {share(epoch.layers[name])}",
                )
                for epoch in epochs
                if name in epoch.layers
            ),
            joined=True,
            dots=False,
        )
        for name in names
    )
    ends = "; ".join(f"{each.label} ends at {each.marks[-1].reading.partition(': ')[2]}" for each in series)
    return Chart(
        title=look.label,
        description=f"Keep fraction of each layer over the epochs of {look.label}. {ends}.",
        series=series,
        y_ticks=tuple(Tick(scale.y(value), share(value)) for value in scale.ticks()),
        x_ticks=(Tick(LEFT + PLOT_WIDTH / 2, f"{run.stage}\n{last} {'epoch' if last == 1 else 'epochs'}"),),
        x_title="",
        labels=end_labels(series),
    )
