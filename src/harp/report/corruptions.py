"""Common corruptions: one by one, and how accuracy falls with severity."""

from collections.abc import Mapping, Sequence

from harp.cards import Corruptions
from harp.report.chart import LEFT, PLOT_WIDTH, Chart, Mark, Series, Tick, accuracy_scale, end_labels
from harp.report.family import Family, Look
from harp.report.reading import Run
from harp.report.wording import count, interval, percent, whole_percent


def corruption_charts(family: Family, looks: Mapping[Run, Look]) -> tuple[Chart, ...]:
    """Accuracy over severity, the mean of all corruptions, and by corruption from the worst; empty where nothing was measured."""
    found = {run: run.corruptions for run in family.tips() if run.corruptions is not None}
    return (_over_severity(found, looks), _by_corruption(found, looks)) if found else ()


def corruption_means(family: Family, looks: Mapping[Run, Look]) -> tuple[tuple[Look, str], ...]:
    """The mean accuracy of each network, with its interval and the number of images."""
    return tuple((looks[run], _mean(run.corruptions)) for run in family.tips() if run.corruptions is not None)


def _mean(found: Corruptions) -> str:
    return f"{percent(found.accuracy)} ({interval(*found.interval)}, {count(found.images)} images)"


def _over_severity(found: Mapping[Run, Corruptions], looks: Mapping[Run, Look]) -> Chart:
    levels = max(len(row) for each in found.values() for row in each.counts.values())
    means = {
        run: [
            sum(row[level] for row in each.counts.values()) / len(each.counts) / each.images for level in range(levels)
        ]
        for run, each in found.items()
    }
    names = [f"severity {level + 1}" for level in range(levels)]
    return _chart(
        "Corruptions: accuracy over severity", means, names, [str(level + 1) for level in range(levels)], looks
    )


def _by_corruption(found: Mapping[Run, Corruptions], looks: Mapping[Run, Look]) -> Chart:
    """All networks in the order of the first, from its worst."""
    first = next(iter(found.values()))
    names = sorted(first.counts, key=first.of)
    means = {run: [each.of(name) for name in names] for run, each in found.items() if set(names) <= each.counts.keys()}
    ticks = [name if number in (0, len(names) - 1) else "" for number, name in enumerate(names)]
    return _chart("Corruptions one by one", means, names, ticks, looks)


def _chart(
    title: str,
    means: Mapping[Run, Sequence[float]],
    names: Sequence[str],
    ticks: Sequence[str],
    looks: Mapping[Run, Look],
) -> Chart:
    scale = accuracy_scale([value for row in means.values() for value in row])
    step = PLOT_WIDTH / len(names)
    places = [LEFT + step * (number + 0.5) for number in range(len(names))]
    series = tuple(
        Series(
            looks[run].label,
            looks[run].tone,
            looks[run].dash,
            tuple(
                Mark(x, scale.y(value), f"{looks[run].label}, {name}: {percent(value)}")
                for x, value, name in zip(places, row, names, strict=True)
            ),
            joined=True,
            dots=True,
        )
        for run, row in means.items()
    )
    return Chart(
        title=title,
        description=f"{title}. " + "; ".join(mark.reading for each in series for mark in each.marks) + ".",
        series=series,
        y_ticks=tuple(Tick(scale.y(value), whole_percent(value)) for value in scale.ticks()),
        x_ticks=tuple(Tick(x, text) for x, text in zip(places, ticks, strict=True)),
        x_title="",
        labels=end_labels(series),
    )
