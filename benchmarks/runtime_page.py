"""The tables of docs/performance.md, from what `runtime.py --details` wrote."""

from pathlib import Path
from typing import Any

from harp.bench.records import OURS, Duel, Record, Setting, at, duel, settings_of, short
from harp.bench.timing import Times

BEGIN, END = "<!-- runtime: begin -->", "<!-- runtime: end -->"
NO_VERSION = ("cpu", "isa", "cores", "platform", "machine", "threads", "device", "commit")
"""What surroundings are besides versions."""
Rows = list[list[str]]


def fill(page: Path, details: dict[str, Any]) -> str:
    """Put the tables between the markers of a page. Raises ValueError when it has not one of each."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{page} must have {BEGIN} and, below it, {END}, once each: tables go between them")
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{tables(details)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return f"{page} has the tables of {len(details['records'])} records"


def tables(details: dict[str, Any]) -> str:
    """Everything as Markdown, the same for the same measurements."""
    records = [Record(**{**record, "times": Times(**record["times"])}) for record in details["records"]]
    networks = details["networks"]
    parts = [
        _surroundings(details),
        "### Time\n\nMedian of a batch in ms; x is the speed-up over the fastest dense engine of the same race.",
        *(_speedups(records, name) for name in dict.fromkeys(r.network for r in records)),
        "### All engines\n\nMedian in ms, quartiles in brackets, and the best.",
        _all_engines(records),
        "### Work\n\nOperations on non-zeros alone, two a multiplication, at the median time.",
        _pace(records, details),
        "### All cores\n\nHow many times faster than one thread.",
        _scaling(records),
        "### Files\n\nIn kB, and as a fraction of all values dense in float32.",
        _files(networks),
        "### Memory and start\n\nPeak in MB above the imports at batch 1 on one thread; the time from opening the file to "
        "the first result, untuned.",
        _memory(records, networks),
    ]
    return "\n\n".join(part for part in parts if part)


def table(head: list[str], rows: Rows) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(keep: float) -> str:
    return f"{100 * keep:.3g} %"


def _surroundings(details: dict[str, Any]) -> str:
    here, effort = details["here"], details["effort"]
    versions = ", ".join(f"{name} {value}" for name, value in here.items() if name not in NO_VERSION and value)
    peaks = ", ".join(f"{float(peak):.0f} GFLOP/s on {threads}" for threads, peak in details["peaks"].items())
    lines = [
        f"{here['cpu']}, {here['cores']} cores, {here['isa']}, {here['platform']}; measured peak: {peaks} thread(s).",
        f"Versions: {versions}; commit {here['commit']}. Seed {details['seed']}; about {effort['seconds']:g} s for each "
        f"engine in each setting, in {effort['rounds']} rounds.",
        *(f"Note: {note}." for note in details["notes"]),
    ]
    return "\n".join(lines)


def _speedups(records: list[Record], network: str) -> str:
    ours = [r for r in records if r.network == network]
    keeps = sorted({r.keep for r in ours}, reverse=True)
    rows = []
    for batch, threads in dict.fromkeys((r.batch, r.threads) for r in ours):
        duels = [duel(ours, Setting(network, keep, batch, threads)) for keep in keeps]
        fastest = next((f"{short(d.dense.median_ms)} ({d.dense.engine})" for d in duels if d), "–")
        rows.append([f"{batch}, {threads}", fastest, *(_cell(found) for found in duels)])
    return table([f"{network}: batch, threads", "fastest dense", *map(percent, keeps)], rows)


def _cell(found: Duel | None) -> str:
    return "–" if found is None else f"{short(found.ours.median_ms)}, **{short(found.speedup)}x**"


def _all_engines(records: list[Record]) -> str:
    """A dense engine has one row, whatever the keep fraction: it is one measurement."""
    rows, seen = [], set()
    for record in records:
        name = f"harp, {percent(record.keep)}" if record.engine == OURS else record.engine
        key = (record.network, record.batch, record.threads, name)
        if key not in seen:
            seen.add(key)
            t = record.times
            spread = f"{short(t.median_ms)} [{short(t.low_ms)}, {short(t.high_ms)}]"
            rows.append(
                [record.network, f"{record.batch}", f"{record.threads}", name, spread, short(t.best_ms), f"{t.calls}"]
            )
    rows.sort(key=lambda row: row[:3])
    return table(["network", "batch", "threads", "engine", "median", "best", "calls"], rows)


def _pace(records: list[Record], details: dict[str, Any]) -> str:
    work = {(n["network"], n["keep"]): n["work"] for n in details["networks"]}
    peaks = {int(threads): float(peak) for threads, peak in details["peaks"].items()}
    rows = []
    for record in records:
        if record.engine == OURS:
            left, macs = work[record.network, record.keep]["macs_left"], work[record.network, record.keep]["macs"]
            pace = 2 * left * record.batch / record.median_ms / 1e6
            setting = [record.network, percent(record.keep), f"{record.batch}", f"{record.threads}"]
            share = f"{pace / peaks[record.threads]:.0%}"
            rows.append([*setting, f"{short(left / 1e6)} of {short(macs / 1e6)}", short(pace), share])
    return table(["network", "keep", "batch", "threads", "million MACs left", "GFLOP/s", "of peak"], rows)


def _scaling(records: list[Record]) -> str:
    rows = []
    for one in [s for s in settings_of(records) if s.threads == 1]:
        for many in [s for s in settings_of(records) if s.threads > 1 and s._replace(threads=1) == one]:
            both = duel(at(records, one), one), duel(at(records, many), many)
            if both[0] and both[1]:
                ours, dense = (
                    getattr(both[0], side).median_ms / getattr(both[1], side).median_ms for side in ("ours", "dense")
                )
                label = [one.network, percent(one.keep), f"{one.batch}", f"{many.threads}"]
                rows.append([*label, f"{ours:.2f}", f"{dense:.2f}"])
    return table(["network", "keep", "batch", "threads", "harp", "fastest dense"], rows) if rows else ""


def _files(networks: list[dict[str, Any]]) -> str:
    rows = []
    for network in networks:
        s = network["sizes"]
        sizes = [
            f"{s[form] / 1e3:,.0f}, 1/{short(s['dense'] / s[form])}" if s[form] else "–"
            for form in ("file", "f16", "compressed", "onnx")
        ]
        rows.append([network["network"], percent(network["keep"]), f"{s['dense'] / 1e3:,.0f}", *sizes])
    compressor = networks[0]["sizes"]["compressor"] if networks else ""
    return table(["network", "keep", "dense", ".harp f32", ".harp f16", f"dense, {compressor}", "ONNX"], rows)


def _memory(records: list[Record], networks: list[dict[str, Any]]) -> str:
    engines = [name for name in dict.fromkeys(r.engine for r in records) if name != OURS]
    rows = []
    for n in networks:
        dense = {r.engine: r.peak_mb for r in records if (r.network, r.keep) == (n["network"], n["keep"])}
        ours, ort = n["peak_mb"], dense.get("onnxruntime")
        ratio = f"1/{short(ort / ours)}" if ours and ort else "–"
        others = ["–" if dense.get(name) is None else f"{dense[name]:.1f}" for name in engines]
        mine = "–" if ours is None else f"{ours:.1f}"
        rows.append([n["network"], percent(n["keep"]), mine, *others, ratio, f"{n['first_ms']:.1f}"])
    head = ["network", "keep", "harp", *engines, "harp to onnxruntime", "first result, ms"]
    return table(head, rows)
