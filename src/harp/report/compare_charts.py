"""A comparison drawn: accuracy over keep, robust over clean accuracy, and what each method kept of each layer."""

import math
from collections.abc import Iterable, Mapping, Sequence

from harp.report.chart import (
    LEFT,
    PLOT_WIDTH,
    Chart,
    EndLabel,
    Mark,
    Scale,
    Series,
    Tick,
    close_scale,
    end_labels,
    fraction_scale,
    led_labels,
)
from harp.report.compare import DENSE, CompareResults, Group
from harp.report.differences import OverSeeds, summary
from harp.report.family import Look
from harp.report.results import Test
from harp.report.wording import percent, plural, share, whole_percent

MARGIN = 0.09  # of the plot's width, beside the outermost keeps
DODGE = 2.5  # between the marks of two methods at one keep
FEW = 4  # marks whose names can stand beside them
MOST_NUMBERS = 12  # layers on one axis


def keep_charts(results: CompareResults, looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """For each granularity and test a line for each method, mean and spread at each keep."""
    return tuple(
        _curves(groups, test, results, looks, title)
        for groups, title in _panels(results)
        for test in results.tests
        if any(group.summary(test) for group in groups)
    )


def trade_charts(results: CompareResults, looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """For each keep robust over clean accuracy: up and to the right is better. None without an attack."""
    if len(results.tests) < 2:
        return ()
    return tuple(
        _trade(of_keep, results, looks, title)
        for groups, title in _panels(results)
        for of_keep in _by_keep(groups)
        if any(all(map(group.summary, results.tests)) for group in of_keep)
    )


def strategy_charts(results: CompareResults, looks: Mapping[str, Look]) -> tuple[Chart, ...]:
    """For each keep what every method kept of each layer, mean and extremes over seeds."""
    return tuple(
        _strategies(of_keep, looks, title)
        for groups, title in _panels(results)
        for of_keep in _by_keep(groups)
        if any(run.layers for group in of_keep for run in group.runs.values())
    )


def _panels(results: CompareResults) -> list[tuple[list[Group], str]]:
    """The pruned groups of each granularity, and what to add to a title to tell them apart."""
    kinds = dict.fromkeys(group.granularity for group in results.pruned)
    return [
        ([g for g in results.pruned if g.granularity == kind], f", {kind}s" if len(kinds) > 1 else "") for kind in kinds
    ]


def _by_keep(groups: Sequence[Group]) -> list[list[Group]]:
    return [[g for g in groups if g.keep == keep] for keep in dict.fromkeys(g.keep for g in groups)]


def _curves(
    groups: Sequence[Group], test: Test, results: CompareResults, looks: Mapping[str, Look], more: str
) -> Chart:
    dense = next((found for g in results.groups if g.method == DENSE and (found := g.summary(test))), None)
    found = {(g.method, g.keep): s for g in groups if (s := g.summary(test))}
    scale = close_scale([*_bounds(found.values()), *([dense.mean] if dense else [])])
    across = _keep_axis([keep for _, keep in found])
    methods = list(dict.fromkeys(method for method, _ in found))
    series = [
        _series(
            looks[method],
            [
                Mark(
                    across[keep] + DODGE * (i - (len(methods) - 1) / 2),
                    scale.y(s.mean),
                    f"{looks[method].label}, {share(keep)}: {_reading(s)}",
                    whisker=_whisker(s, scale),
                )
                for (owner, keep), s in sorted(found.items(), key=lambda item: item[0][1])
                if owner == method
            ],
        )
        for i, method in enumerate(methods)
    ]
    level = [] if dense is None else [_level(dense, scale)]
    title = f"{test.name} accuracy over keep{more}"
    return Chart(
        title=title,
        description=_description(title, series),
        series=(*level, *series),
        y_ticks=_percents(scale),
        x_ticks=tuple(Tick(x, share(keep)) for keep, x in across.items()),
        x_title=" ".join(("kept, logarithmic axis", *([f"· {test.threat}"] if test.threat else []))),
        labels=_labels([*level, *series]),
    )


def _trade(groups: Sequence[Group], results: CompareResults, looks: Mapping[str, Look], more: str) -> Chart:
    clean, robust = results.tests
    both = {g.method: (c, r) for g in groups if (c := g.summary(clean)) and (r := g.summary(robust))}
    across = close_scale(_bounds(c for c, _ in both.values()))
    up = close_scale(_bounds(r for _, r in both.values()))
    series = []
    for method, (c, r) in both.items():
        reading = f"{looks[method].label}: clean {_reading(c)}, {robust.name} {_reading(r)}"
        low, high = map(across.x, c.ends)
        sides = None if c.spread is None else (low, high)
        mark = Mark(across.x(c.mean), up.y(r.mean), reading, whisker=_whisker(r, up), across=sides)
        series.append(Series(looks[method].label, looks[method].tone, looks[method].dash, (mark,), False, dots=True))
    title = f"{robust.name} against clean accuracy at {share(groups[0].keep)}{more}"
    return Chart(
        title=title,
        description=_description(title, series),
        series=tuple(series),
        y_ticks=_percents(up),
        x_ticks=tuple(Tick(across.x(value), whole_percent(value)) for value in across.ticks(5)),
        x_title=f"across: clean; upwards: {robust.name} {robust.threat}",
        labels=end_labels(series, beside_marks=True) if len(series) <= FEW else led_labels(series),
    )


def _strategies(groups: Sequence[Group], looks: Mapping[str, Look], more: str) -> Chart:
    names = list(dict.fromkeys(name for g in groups for run in g.runs.values() for name in run.layers))
    kept = {g.method: {name: s for name in names if (s := _kept_of(g, name))} for g in groups}
    scale = fraction_scale([s.least for layers in kept.values() for s in layers.values()])
    step = PLOT_WIDTH / len(names)
    series = [
        _series(
            looks[method],
            [
                Mark(
                    LEFT + step * (names.index(name) + 0.5),
                    scale.y(s.mean),
                    f"{looks[method].label}, {name}: {share(s.mean)}" + _range(s),
                    whisker=None if s.least == s.most else (scale.y(s.least), scale.y(s.most)),
                )
                for name, s in layers.items()
            ],
        )
        for method, layers in kept.items()
        if layers
    ]
    every = math.ceil(len(names) / MOST_NUMBERS)
    title = f"Kept of each layer at {share(groups[0].keep)}{more}"
    return Chart(
        title=title,
        description=_description(title, series),
        series=tuple(series),
        y_ticks=tuple(Tick(scale.y(value), share(value)) for value in scale.ticks()),
        x_ticks=tuple(Tick(LEFT + step * (i + 0.5), str(i + 1) if i % every == 0 else "") for i in range(len(names))),
        x_title=f"{plural(len(names), 'layer', 'layers')}, in network order",
        labels=_labels(series),
    )


def _kept_of(group: Group, name: str) -> OverSeeds | None:
    found = [run.layers[name] for run in group.runs.values() if name in run.layers]
    return summary(layer.kept / layer.total for layer in found if layer.total)


def _series(look: Look, marks: Sequence[Mark]) -> Series:
    return Series(look.label, look.tone, look.dash, tuple(marks), joined=len(marks) > 1, dots=True)


def _level(dense: OverSeeds, scale: Scale) -> Series:
    """The parents, as a line from side to side."""
    ends = tuple(Mark(x, scale.y(dense.mean), f"dense: {_reading(dense)}") for x in (LEFT, LEFT + PLOT_WIDTH))
    return Series("dense", "dense", "2 3", ends, joined=True, dots=False)


def _keep_axis(keeps: Sequence[float]) -> dict[float, float]:
    """Where each keep stands, from little to much, on a logarithmic axis."""
    ordered = sorted(set(keeps))
    if len(ordered) == 1:
        return {ordered[0]: LEFT + PLOT_WIDTH / 2}
    scale = Scale(ordered[0], ordered[-1], log=True)
    return {keep: LEFT + PLOT_WIDTH * (MARGIN + (1 - 2 * MARGIN) * scale.part(keep)) for keep in ordered}


def _bounds(found: Iterable[OverSeeds]) -> list[float]:
    return [end for s in found for end in s.ends]


def _whisker(found: OverSeeds, scale: Scale) -> tuple[float, float] | None:
    if found.spread is None:
        return None
    low, high = found.ends
    return scale.y(low), scale.y(high)


def _reading(found: OverSeeds) -> str:
    spread = "" if found.spread is None else f" ± {100 * found.spread:.1f}"
    return f"{percent(found.mean)}{spread} ({plural(found.n, 'seed', 'seeds')})"


def _range(found: OverSeeds) -> str:
    return "" if found.least == found.most else f" ({share(found.least)} to {share(found.most)} over {found.n} seeds)"


def _labels(series: Sequence[Series]) -> tuple[EndLabel, ...]:
    return end_labels(series) if len(series) <= FEW else led_labels(series)


def _percents(scale: Scale) -> tuple[Tick, ...]:
    return tuple(Tick(scale.y(value), whole_percent(value)) for value in scale.ticks())


def _description(title: str, series: Sequence[Series]) -> str:
    return f"{title}. " + "; ".join(mark.reading for each in series for mark in each.marks) + "."
