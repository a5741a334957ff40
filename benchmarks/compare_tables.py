"""What `compare_anchor.py` measured, as the heads and lines of two tables: all methods, and all of them beside HARP."""

from collections.abc import Mapping, Sequence
from typing import Any

from channel_tables import mean_and_spread

from harp.report.differences import Difference, paired_difference
from harp.report.wording import method_name, points

BASELINE = "hydra"
TESTS = {"clean": "clean", "autoattack": "AutoAttack"}
Record = dict[str, Any]
Table = tuple[list[str], list[list[str]]]


def accuracies(records: Sequence[Record]) -> Table:
    """A line per method and keep: mean ± standard deviation over seeds, and the paired difference to HYDRA."""
    less = f"− {method_name(BASELINE)}"
    head = ["keep", "method", *TESTS.values(), f"clean {less}", f"AutoAttack {less}"]
    body = []
    for method, keep in groups(records):
        mine = of(records, method, keep)
        found = {} if method in (BASELINE, "dense") else differences(mine, of(records, BASELINE, keep))
        title = [f"{100 * keep:g} %", "dense parents" if method == "dense" else method_name(method)]
        means = [mean_and_spread([r[test] for r in mine]) for test in TESTS]
        body.append([*title, *means, *(reading(found.get(test)) for test in TESTS.values())])
    return head, body


def beside_harp(records: Sequence[Record]) -> Table:
    """A line per method and keep: it less HARP, seed by seed; and what two plug-ins do beyond the sum of each, last."""
    head = ["keep", "method", *(f"{test} − HARP" for test in TESTS.values())]
    body = []
    for keep in keeps(records):
        plain = of(records, "harp", keep)
        others = [method for method, at in groups(records) if at == keep and method != "harp"]
        lines = {method_name(method): differences(of(records, method, keep), plain) for method in others}
        lines["S2AP and AWP, less the sum of each"] = interaction(records, keep)
        for title, found in lines.items():
            body.append([f"{100 * keep:g} %", title, *(reading(found.get(test)) for test in TESTS.values())])
    return head, body


def interaction(records: Sequence[Record], keep: float) -> dict[str, Difference | None]:
    """(both − one) − (other − none), seed by seed: what the plug-ins do together beyond what each does alone."""
    cells = [of(records, f"harp{plug_in}", keep) for plug_in in ("+s2ap+awp", "+s2ap", "+awp", "")]
    found = {}
    for test, title in TESTS.items():
        both, one, other, none = (by_seed(cell, test) for cell in cells)
        common = both.keys() & one.keys() & other.keys() & none.keys()
        alone = {seed: one[seed] + other[seed] - none[seed] for seed in common}
        found[title] = paired_difference(both, alone)
    return found


def groups(records: Sequence[Record]) -> list[tuple[str, float]]:
    """Method and keep, from much to little kept, the methods in the order of the records."""
    found = dict.fromkeys((r["method"], r["keep"]) for r in records)
    return sorted(found, key=lambda group: -group[1])


def keeps(records: Sequence[Record]) -> list[float]:
    """Those of the pruned networks, from much to little."""
    return sorted({r["keep"] for r in records if r["method"] != "dense"}, reverse=True)


def of(records: Sequence[Record], method: str, keep: float) -> list[Record]:
    return [r for r in records if (r["method"], r["keep"]) == (method, keep)]


def by_seed(records: Sequence[Record], test: str) -> dict[int, float]:
    return {r["seed"]: r[test] for r in records if r[test] is not None}


def differences(ours: Sequence[Record], theirs: Sequence[Record]) -> Mapping[str, Difference | None]:
    return {title: paired_difference(by_seed(ours, test), by_seed(theirs, test)) for test, title in TESTS.items()}


def reading(difference: Difference | None) -> str:
    """In percentage points, with the interval where there is one, and an arrow where that says more or less."""
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return points(difference.mean)
    arrow = {1: " ↑", 0: "", -1: " ↓"}[difference.sign]
    return f"{points(difference.mean)} ({points(difference.low)} to {points(difference.high)}){arrow}"
