"""Accuracy over every radius at once, of networks whose images were measured: one line per network."""

import math
from collections.abc import Mapping, Sequence

from harp.cards import Evaluation
from harp.report.chart import Chart, Mark, Series, Tick, accuracy_scale, end_labels, linear_scale
from harp.report.family import Look
from harp.report.reading import Run
from harp.report.wording import NORMS, count, eps_text, interval, percent, whole_percent

POINTS = 33
"""Radii that are drawn, from 0 to the largest."""
FARTHEST = 0.98
"""Of the images of the most robust network, the share whose distances the axis holds."""


def distance_charts(runs: Sequence[Run], looks: Mapping[Run, Look]) -> list[Chart]:
    """A chart for each norm in which any run was measured."""
    found = {run: {each.norm: each for each in run.evaluations if each.distances} for run in runs}
    norms = dict.fromkeys(norm for each in found.values() for norm in each if norm is not None)
    return [_chart(norm, {run: each[norm] for run, each in found.items() if norm in each}, looks) for norm in norms]


def _chart(norm: str, found: Mapping[Run, Evaluation], looks: Mapping[Run, Look]) -> Chart:
    radii = linear_scale([_far(each) for each in found.values()])
    drawn = [radii.high * i / (POINTS - 1) for i in range(POINTS)]
    accuracies = {run: [each.at(eps) for eps in drawn] for run, each in found.items()}
    scale = accuracy_scale([value for row in accuracies.values() for at in row for value in at])
    series = []
    for run in found:
        marks = tuple(
            Mark(radii.x(eps), scale.y(at), _reading(eps, at, low, high), whisker=(scale.y(low), scale.y(high)))
            for eps, (at, low, high) in zip(drawn, accuracies[run], strict=True)
        )
        series.append(Series(looks[run].label, looks[run].tone, looks[run].dash, marks, joined=True, dots=False))
    title = f"Accuracy over every eps, {NORMS.get(norm, norm)}"
    medians = "; ".join(f"{looks[run].label}: {_median(each)}" for run, each in found.items())
    return Chart(
        title=title,
        description=f"{title}, from the nearest image found that fools each network. {medians}.",
        series=tuple(series),
        y_ticks=tuple(Tick(scale.y(value), whole_percent(value)) for value in scale.ticks()),
        x_ticks=tuple(Tick(radii.x(value), eps_text(value)) for value in radii.ticks(5)),
        x_title="eps; wrong clean images have distance 0",
        labels=end_labels(series),
    )


def _far(found: Evaluation) -> float:
    """The distance that nearly all images have at most, of those with any."""
    known = sorted(each for each in found.distances if each)
    return known[math.ceil(FARTHEST * (len(known) - 1))] if known else found.eps or 1.0


def _median(found: Evaluation) -> str:
    middle = found.median_distance
    near = "no median distance" if middle is None else f"median distance {eps_text(middle)}"
    return f"{near}, {count(found.images)} images"


def _reading(eps: float, at: float, low: float, high: float) -> str:
    return f"eps {eps_text(eps)}: {percent(at)} ({interval(low, high)})"
