"""What `channels.py` measured, as the heads and lines of two tables: how good the networks are, and how fast."""

from collections.abc import Sequence
from statistics import mean, median, stdev
from typing import Any

from cells import percent

TITLES = {"dense": "dense", "harp": "HARP", "hydra": "HYDRA", "lwm": "LWM", "r-admm": "R-ADMM"}
Record = dict[str, Any]
Table = tuple[list[str], list[list[str]]]


def accuracies(records: Sequence[Record]) -> Table:
    """A line per method and budget: mean ± standard deviation over its networks, and what is left to compute."""
    head = ["", "method, keep", "n", "clean", "AutoAttack", "MACs", "parameters"]
    body = []
    for title, mine, _ in groups(records):
        tests = [mean_and_spread([r[test] for r in mine]) for test in ("clean", "autoattack")]
        sizes = [span([r[measure] for r in mine]) for measure in ("macs", "parameters")]
        body.append([*title, str(len(mine)), *tests, *sizes])
    return head, body


def latencies(records: Sequence[Record]) -> Table:
    """A line per method and budget: milliseconds a batch, and how many times faster than the dense parents."""
    courses = list(records[0]["latency"])
    body = [
        [*title, *(timing(mine, parents, course) for course in courses)] for title, mine, parents in groups(records)
    ]
    return ["", "method, keep", *courses], body


def groups(records: Sequence[Record]) -> list[tuple[list[str], list[Record], list[Record]]]:
    """What a line says first, its networks, and their parents; by network, from much to little kept."""
    order = list(TITLES)
    keys = {(r["network"], -r["keep"], order.index(r["method"])) for r in records}
    found = []
    for network, minus_keep, place in sorted(keys):
        here = [r for r in records if r["network"] == network]
        mine = [r for r in here if (r["keep"], r["method"]) == (-minus_keep, order[place])]
        title = [network, f"{TITLES[order[place]]}, {-100 * minus_keep:g} %"]
        found.append((title, mine, [r for r in here if r["method"] == "dense"]))
    return found


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Over all networks, in %; a dash when one was not judged."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return percent(None)
    return percent(mean(known)) + (f" ± {100 * stdev(known):.1f}" if len(known) > 1 else "")


def span(numbers: Sequence[int]) -> str:
    """From the smallest to the largest, or the one number that all have."""
    return "–".join(f"{number:,}" for number in dict.fromkeys((min(numbers), max(numbers))))


def timing(mine: Sequence[Record], parents: Sequence[Record], course: str) -> str:
    """The median over networks, the widest quartiles, and the ratio of the medians."""
    ours, theirs = ([r["latency"][course] for r in of] for of in (mine, parents))
    ms, dense = (median(times["median_ms"] for times in of) for of in (ours, theirs))
    low, high = min(times["low_ms"] for times in ours), max(times["high_ms"] for times in ours)
    return f"{ms:.3g} ({low:.3g}–{high:.3g}), {dense / ms:.2f}×"
