"""Accuracy under each attack, and over eps where a network was attacked at several."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from harp.cards import Evaluation
from harp.report.chart import LEFT, PLOT_WIDTH, Chart, Mark, Scale, Series, Tick, accuracy_scale, end_labels
from harp.report.distances import distance_charts
from harp.report.family import Family, Look
from harp.report.reading import Run
from harp.report.results import Test, best_evaluation, headline_tests, tests_of
from harp.report.wording import NORMS, count, eps_text, interval, percent, whole_percent

CLEAN = Test("clean", None, None)
NAME_WIDTH = 34  # of "16/255"
DODGE = 9  # between the marks of two runs at one place


def accuracy_charts(family: Family, looks: Mapping[Run, Look]) -> tuple[Chart, ...]:
    """Points for every attack, lines over eps for those run at several, and robust over clean accuracy."""
    runs = family.tips()
    headline = headline_tests(runs)
    if not headline:
        return ()
    charts = [_chart_of_points(headline, runs, looks)]
    over_eps: dict[tuple[str, str, tuple[str, ...]], list[Test]] = {}
    for test in tests_of(runs):
        if test.norm is not None and test.eps is not None:
            over_eps.setdefault((test.attack, test.norm, test.how), []).append(test)
    charts += [_chart_over_eps(tests, runs, looks) for tests in over_eps.values() if len(tests) > 1]
    charts += distance_charts(runs, looks)
    if headline[-1] != CLEAN:
        charts += _chart_of_both(headline[-1], runs, looks)
    return tuple(charts)


def _chart_over_eps(tests: Sequence[Test], runs: Sequence[Run], looks: Mapping[Run, Look]) -> Chart:
    """Clean accuracy is accuracy at eps 0, so every line starts there when it was measured."""
    norm = tests[0].norm or ""
    tests = [CLEAN, *tests]
    largest = max(test.eps or 0.0 for test in tests) or 1.0
    places = [LEFT + 8 + (test.eps or 0.0) / largest * (PLOT_WIDTH - 16) for test in tests]
    return _accuracy_chart(
        title=f"{tests[-1].name} over eps, {NORMS.get(norm, norm)}",
        tests=tests,
        places=places,
        names=_names_with_room(places, ["0", *(eps_text(test.eps) for test in tests[1:])]),
        x_title="eps; clean images at 0",
        runs=runs,
        looks=looks,
        joined=True,
    )


def _names_with_room(places: Sequence[float], names: Sequence[str]) -> list[str]:
    """Names from right to left, leaving out those that would run into their right neighbour."""
    shown: list[str] = []
    free = math.inf
    for place, name in zip(reversed(places), reversed(names), strict=True):
        shown.insert(0, name if place <= free else "")
        free = place - NAME_WIDTH if place <= free else free
    return shown


def _chart_of_points(tests: Sequence[Test], runs: Sequence[Run], looks: Mapping[Run, Look]) -> Chart:
    step = PLOT_WIDTH / len(tests)
    return _accuracy_chart(
        title="Accuracy by attack",
        tests=tests,
        places=[LEFT + step * (i + 0.5) for i in range(len(tests))],
        names=[f"{test.name}\n{test.threat}".strip() for test in tests],
        x_title="",
        runs=runs,
        looks=looks,
        joined=False,
    )


def _chart_of_both(test: Test, runs: Sequence[Run], looks: Mapping[Run, Look]) -> list[Chart]:
    """Robust over clean accuracy: a method is better only if it is not worse in either. Needs both of some run."""
    pairs = {run: (best_evaluation(run, CLEAN), best_evaluation(run, test)) for run in runs}
    both = {run: (clean, robust) for run, (clean, robust) in pairs.items() if clean and robust}
    if not both:
        return []
    across = accuracy_scale([bound for clean, _ in both.values() for bound in (clean.low, clean.high)])
    up = accuracy_scale([bound for _, robust in both.values() for bound in (robust.low, robust.high)])
    series = []
    for run, (clean, robust) in both.items():
        reading = f"{looks[run].label}: clean {percent(clean.accuracy)}, {test.name} {percent(robust.accuracy)}"
        mark = Mark(
            across.x(clean.accuracy),
            up.y(robust.accuracy),
            reading,
            whisker=(up.y(robust.low), up.y(robust.high)),
            across=(across.x(clean.low), across.x(clean.high)),
        )
        series.append(Series(looks[run].label, looks[run].tone, looks[run].dash, (mark,), joined=False, dots=True))
    title = f"{test.name} against clean accuracy"
    return [
        Chart(
            title=title,
            description=f"{title}. " + "; ".join(each.marks[0].reading for each in series) + ".",
            series=tuple(series),
            y_ticks=tuple(Tick(up.y(value), whole_percent(value)) for value in up.ticks()),
            x_ticks=tuple(Tick(across.x(value), whole_percent(value)) for value in across.ticks(5)),
            x_title=f"across: clean; upwards: {test.name} {test.threat}",
            labels=end_labels(series, beside_marks=True),
        )
    ]


def _accuracy_chart(
    title: str,
    tests: Sequence[Test],
    places: Sequence[float],
    names: Sequence[str],
    x_title: str,
    runs: Sequence[Run],
    looks: Mapping[Run, Look],
    joined: bool,
) -> Chart:
    found = [[best_evaluation(run, test) for test in tests] for run in runs]
    scale = accuracy_scale([bound for row in found for each in row if each for bound in (each.low, each.high)])
    dodge = 0.0 if joined else min(DODGE, 0.8 * PLOT_WIDTH / len(tests) / len(runs))
    series = []
    for i, (run, row) in enumerate(zip(runs, found, strict=True)):
        offset = dodge * (i - (len(runs) - 1) / 2)
        mark = partial(_accuracy_mark, look=looks[run], scale=scale)
        marks = tuple(
            mark(each, test, x + offset) for each, test, x in zip(row, tests, places, strict=True) if each is not None
        )
        series.append(Series(looks[run].label, looks[run].tone, looks[run].dash, marks, joined, dots=True))
    drawn = [each for each in series if each.marks]
    return Chart(
        title=title,
        description=f"{title}. " + "; ".join(mark.reading for each in drawn for mark in each.marks) + ".",
        series=tuple(drawn),
        y_ticks=tuple(Tick(scale.y(value), whole_percent(value)) for value in scale.ticks()),
        x_ticks=tuple(Tick(x, name) for x, name in zip(places, names, strict=True)),
        x_title=x_title,
        labels=end_labels(drawn),
    )


def _accuracy_mark(each: Evaluation, test: Test, x: float, look: Look, scale: Scale) -> Mark:
    where = f"{test.name} {test.threat}".strip()
    reading = f"{look.label}, {where}: {percent(each.accuracy)} ({interval(each.low, each.high)}, {count(each.images)} images)"
    return Mark(x, scale.y(each.accuracy), reading, whisker=(scale.y(each.low), scale.y(each.high)))
