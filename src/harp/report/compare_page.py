"""The page of a comparison: who is better at what, accuracy over keep, strategies, and every network behind it."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harp.report.chart import MOST_LABELS, Chart, Scale, accuracy_scale, nice_step
from harp.report.compare import DENSE, CompareResults, Group
from harp.report.compare_charts import keep_charts, strategy_charts, trade_charts
from harp.report.compare_columns import EXTRA_COLUMNS
from harp.report.differences import Difference, OverSeeds
from harp.report.family import DASHES, SPARE_TONES, TONES, Family, Look, looks
from harp.report.page import facts_of, render
from harp.report.results import Table, Test, results_table
from harp.report.wording import MISSING, count, percent, plural, points, share, whole_percent


@dataclass(frozen=True)
class Strip:
    """A number of several seeds on a common axis. All places are in percent of its width."""

    sort: float
    text: str
    spread: str
    at: float
    start: float
    end: float
    dots: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Line:
    """One row: the networks of one method at one keep."""

    look: Look
    keep: str
    share: float
    granularity: str
    kept: str
    seeds: int
    passes: str
    accuracies: tuple[Strip | None, ...]
    differences: tuple[Strip | None, ...]
    verdict: str
    extra: tuple[str, ...]
    first: bool
    """Whether it begins another keep or granularity."""


@dataclass(frozen=True)
class PageTable:
    """The table of the page, and the ends of its axes."""

    tests: tuple[Test, ...]
    lines: tuple[Line, ...]
    baseline: str
    axes: tuple[tuple[str, str], ...]
    reach: str
    zero: float
    granular: bool
    extra: tuple[tuple[str, str], ...]
    """Titles of further columns, and what they are."""


@dataclass(frozen=True)
class ComparePage:
    """All that the template draws."""

    sentence: str
    standing: PageTable
    caveats: tuple[str, ...]
    key: tuple[Look, ...]
    keeps: tuple[Chart, ...]
    trades: tuple[Chart, ...]
    strategies: tuple[Chart, ...]
    layers: tuple[str, ...]
    networks: Table


def render_compare_report(results: CompareResults, date: datetime.date) -> str:
    """The page as HTML."""
    runs = tuple(dict.fromkeys(results.runs.values()))
    family = Family(runs, {run.home: run for run in runs})
    first = results.pruned[0]
    run = next(iter(first.runs.values()))
    drawn = method_looks(results)
    page = ComparePage(
        sentence=_sentence(results),
        standing=_standing(results, drawn),
        caveats=results.caveats,
        key=tuple(drawn[method] for method in results.methods) if len(results.methods) >= MOST_LABELS else (),
        keeps=keep_charts(results, drawn),
        trades=trade_charts(results, drawn),
        strategies=strategy_charts(results, drawn),
        layers=tuple(dict.fromkeys(name for each in runs for name in each.layers)),
        networks=results_table(family, looks(family)),
    )
    title = f"{run.model} on {run.data}: methods compared"
    return render("compare.html.j2", title=title, page=page, facts=facts_of(runs, date))


def method_looks(results: CompareResults) -> dict[str, Look]:
    """A colour for each method of the table, which it keeps with its plug-ins; those differ in their dashes."""
    found = {DENSE: Look("dense", "dense", "")}
    names = {group.method: group.name for group in results.pruned}
    strangers = list(dict.fromkeys(m.partition("+")[0] for m in names if m.partition("+")[0] not in TONES))
    for method, name in names.items():
        bare = method.partition("+")[0]
        tone = bare if bare in TONES else SPARE_TONES[strangers.index(bare) % len(SPARE_TONES)]
        siblings = [other for other in names if other.partition("+")[0] == bare]
        found[method] = Look(name, tone, DASHES[siblings.index(method) % len(DASHES)])
    return found


def _sentence(results: CompareResults) -> str:
    methods = plural(len(results.methods), "method", "methods")
    keeps = " and ".join(dict.fromkeys(share(group.keep) for group in results.pruned))
    seeds = plural(len(results.seeds), "seed", "seeds")
    return (
        f"{methods.capitalize()} pruned to {keeps} from the same parents, with the same number of passes, over {seeds}; "
        f"every network evaluated on {count(results.images)} test images."
    )


def _standing(results: CompareResults, drawn: Mapping[str, Look]) -> PageTable:
    values = {test: [v for group in results.groups for v in group.values[test].values()] for test in results.tests}
    scales = {test: accuracy_scale(found or [0.0, 1.0]) for test, found in values.items()}
    reach = _reach([each for group in results.groups for each in group.differences.values()])
    return PageTable(
        tests=results.tests,
        lines=tuple(
            replace(
                _line(group, results, drawn[group.method], scales, reach),
                first=before is None or not _alike(group, before),
            )
            for group, before in zip(results.groups, (None, *results.groups), strict=False)
        ),
        baseline=drawn[results.baseline].label if results.baseline in drawn else results.baseline,
        axes=tuple((whole_percent(scale.low), whole_percent(scale.high)) for scale in scales.values()),
        reach=f"{100 * reach.high:.0f}",
        zero=100 * reach.part(0.0),
        granular=len({group.granularity for group in results.pruned}) > 1,
        extra=tuple((EXTRA_COLUMNS[name].title, EXTRA_COLUMNS[name].what) for name in results.columns),
    )


def _line(group: Group, results: CompareResults, look: Look, scales: Mapping[Test, Scale], reach: Scale) -> Line:
    total = next(iter(group.runs.values())).total
    kept = " to ".join(count(number) for number in dict.fromkeys((group.kept[0], group.kept[-1])))
    return Line(
        look=look,
        keep=share(group.keep),
        share=group.keep,
        granularity=group.granularity,
        kept=f"{kept} / {count(total)}",
        seeds=len(group.runs),
        passes="" if group.method == DENSE else f"{group.passes:,g} passes",
        accuracies=tuple(_accuracy(group, test, scales[test]) for test in results.tests),
        differences=tuple(_difference(group.differences.get(test), reach) for test in results.tests),
        verdict="baseline" if group.method == results.baseline else group.verdict,
        extra=tuple(_mean_and_spread(found) for found in group.extra.values()),
        first=False,
    )


def _alike(one: Group, other: Group) -> bool:
    return (one.keep, one.granularity) == (other.keep, other.granularity)


def _accuracy(group: Group, test: Test, scale: Scale) -> Strip | None:
    found: OverSeeds | None = group.summary(test)
    if found is None:
        return None
    low, high = found.ends
    return Strip(
        sort=found.mean,
        text=percent(found.mean),
        spread="" if found.spread is None else f"± {100 * found.spread:.1f}",
        at=100 * scale.part(found.mean),
        start=100 * max(0.0, scale.part(low)),
        end=100 * min(1.0, scale.part(high)),
        dots=tuple((100 * scale.part(v), f"seed {seed}: {percent(v)}") for seed, v in group.values[test].items()),
    )


def _mean_and_spread(found: OverSeeds | None) -> str:
    if found is None:
        return MISSING
    return percent(found.mean) + ("" if found.spread is None else f" ± {100 * found.spread:.1f}")


def _difference(found: Difference | None, reach: Scale) -> Strip | None:
    if found is None:
        return None
    low, high = (found.mean, found.mean) if found.low is None or found.high is None else (found.low, found.high)
    interval = "" if found.low is None else f"{points(low)} to {points(high)}"

    def place(value: float) -> float:
        return 100 * min(1.0, max(0.0, reach.part(value)))

    return Strip(found.mean, points(found.mean), interval, place(found.mean), place(low), place(high))


def _reach(differences: Sequence[Difference]) -> Scale:
    """An axis around 0 for all means and for intervals that are not absurd: one of two seeds may be a hundred wide."""
    means = [abs(each.mean) for each in differences]
    widths = [abs(end) for each in differences if each.n > 2 for end in (each.low, each.high) if end is not None]
    most = nice_step(max([0.02, *(1.25 * mean for mean in means), *widths]) / 4) * 4
    return Scale(-most, most)
