"""Which networks can be pruned and exported: tries each of `coverage_networks.txt`, and makes docs/coverage.md.

    python benchmarks/coverage.py --jobs 2 --json results/coverage.json     # hours; what is done is not tried again
    python benchmarks/coverage.py --only 'timm res*' --no-times

Each network has a process of its own with a time limit and a memory limit. What was found is kept in the state file as
soon as it is known, so that an interrupted run goes on. `--again failed` tries the steps once more that failed, and
`--again times` times the exported files only. Times are to be believed only with --jobs 1 on an idle machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from harp.files import write_bytes, write_json, write_json_lines

HERE = Path(__file__).parent
NETWORKS = HERE / "coverage_networks.txt"
STEPS = ("weights", "channels", "export")
PUBLIC = ("network", "source", *STEPS, "difference", "harp_ms", "onnxruntime_ms")
"""The keys of a record in JSON, these and no others."""
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
LONGEST = 160
"""Characters of a message in the table."""
Record = dict[str, Any]
OF_EXPORT = ("difference", "size_bytes", "harp_ms", "onnxruntime_ms")
"""What a record has only of an exported network."""


def networks(path: Path = NETWORKS) -> list[tuple[str, str]]:
    """(source, name) of each line."""
    return [(source, name) for source, name in map(str.split, path.read_text(encoding="utf-8").splitlines())]


def tried(
    network: tuple[str, str],
    *,
    timeout_s: float,
    memory_gb: float,
    times: bool,
    files: Path,
    steps: Sequence[str] = STEPS,
) -> Record:
    """What one network comes to in these steps. What a process had no time or memory for is said in its place."""
    file = files / f"{'-'.join(network)}.harp"
    command = [sys.executable, str(HERE / "coverage_one.py"), *network, "--file", str(file), "--steps", ",".join(steps)]
    ended, said, errors = "", "", ""
    try:
        done = subprocess.run(
            [*command, *([] if times else ["--no-times"])],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=partial(_limit_memory, int(memory_gb * 2**30)),
        )
        said, errors = done.stdout, done.stderr
        if done.returncode:
            ended = f"died ({done.returncode}): {errors.strip().rpartition(chr(10))[2]}"
    except subprocess.TimeoutExpired as error:
        said, ended = (error.stdout or b"").decode(), f"not done after {timeout_s:g} s"
    found = json.loads(said.splitlines()[-1]) if said.strip() else {}
    source, name = network
    return {"network": name, "source": source, **{step: found.get(step, ended) for step in steps}, **found}


def _limit_memory(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def try_all(wanted: Sequence[tuple[str, str]], state: Path, jobs: int, again: str = "", **limits: Any) -> list[Record]:
    """Try what the state file does not have, and once more what `again` asks for; keep each result in it at once."""
    records = {_key(record): record for record in read_state(state)}
    left = {network: steps_left(records.get(network), again) for network in wanted}
    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(partial(tried, **limits, steps=steps), network)
            for network, steps in left.items()
            if steps is not None
        ]
        for done in as_completed(futures):
            found = done.result()
            old = records.get(_key(found), {})
            kept = {key: value for key, value in old.items() if "export" not in found or key not in OF_EXPORT}
            records[_key(found)] = record = {**kept, **found}
            write_json_lines(state, list(records.values()))
            print(len(records), record["source"], record["network"], *(record[step][:60] for step in STEPS), sep="  ")
    return list(records.values())


def steps_left(record: Record | None, again: str) -> list[str] | None:
    """Of a network; none of them are only its times, and None is nothing at all."""
    if record is None or again == "all":
        return list(STEPS)
    if again == "failed":
        return [step for step in STEPS if record[step] != "ok"] or None
    if again == "times":
        return [] if record["export"] == "ok" else None
    return [again] if again else None


def _key(record: Record) -> tuple[str, str]:
    return record["source"], record["network"]


def read_state(path: Path) -> list[Record]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def public(record: Record) -> Record:
    return {key: record.get(key) for key in PUBLIC}


def table(records: Iterable[Record]) -> str:
    """All of it as Markdown: a sentence of totals, a row for each network, and what was said where one was refused."""
    rows = sorted(records, key=lambda record: (record["source"], record["network"]))
    done = {step: sum(record[step] == "ok" for record in rows) for step in STEPS}
    totals = ", ".join(f"{step} {count} of {len(rows)}" for step, count in done.items())
    ratios = [r["onnxruntime_ms"] / r["harp_ms"] for r in rows if r.get("harp_ms") and r.get("onnxruntime_ms")]
    speed = f" At 5 % harp takes 1/{median(ratios):.1f} of ONNX Runtime's time in the median." if ratios else ""
    head = "| network | weights | channels | export | file, MB | difference | harp, ms | ONNX Runtime, ms |"
    lines = [head, "|---|---|---|---|---:|---:|---:|---:|", *map(_row, rows)]
    refused = [f"- {r['network']} ({r['source']}), {s}: {_short(r[s])}" for r in rows for s in STEPS if r[s] != "ok"]
    parts = [f"In short: {totals}.{speed}", "\n".join(lines)]
    return "\n\n".join(parts + (["What was said:", "\n".join(refused)] if refused else []))


def _row(record: Record) -> str:
    cells = [f"{record['network']} ({record['source']})", *("ok" if record[s] == "ok" else "no" for s in STEPS)]
    size, off = record.get("size_bytes"), record.get("difference")
    cells += ["–" if size is None else f"{size / 1e6:.2f}", "–" if off is None else f"{off:.0e}"]
    cells += ["–" if record.get(key) is None else f"{record[key]:.2f}" for key in ("harp_ms", "onnxruntime_ms")]
    return f"| {' | '.join(cells)} |"


def _short(text: str) -> str:
    plain = text.replace("|", "/").replace("<", "(").replace(">", ")")
    return f"`{plain[:LONGEST].replace('`', chr(39))}{'…' if len(plain) > LONGEST else ''}`"


def fill(page: Path, records: Iterable[Record]) -> None:
    """Put the table between the markers of the page. Raises ValueError when it has not one of each."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page} must have {BEGIN} and, below it, {END}, once each: the table goes between them")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    write_bytes(page, f"{before}{BEGIN}\n\n{table(records)}\n\n{END}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--only", action="append", default=[], help="patterns such as 'timm res*'")
    parser.add_argument("--state", type=Path, default=Path("runs/coverage.jsonl"), help="what is known so far")
    parser.add_argument("--again", choices=["all", "failed", "times", *STEPS], default="", help="of what is known")
    parser.add_argument("--files", type=Path, default=Path("runs/coverage"), help="exported networks, timed again here")
    parser.add_argument("--json", type=Path, help="write the records here")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "coverage.md")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for one network")
    parser.add_argument("--memory", type=float, default=12.0, help="GiB of address space for one network")
    parser.add_argument("--no-times", action="store_true")
    flags = parser.parse_args()
    patterns = flags.only or ["*"]
    wanted = [pair for pair in networks() if any(fnmatchcase(" ".join(pair), pattern) for pattern in patterns)]
    flags.state.parent.mkdir(parents=True, exist_ok=True)
    flags.files.mkdir(parents=True, exist_ok=True)
    limits = {"timeout_s": flags.timeout, "memory_gb": flags.memory, "times": not flags.no_times, "files": flags.files}
    records = try_all(wanted, flags.state, flags.jobs, flags.again, **limits)
    if flags.json:
        write_json(flags.json, [public(record) for record in records])
    fill(flags.page, records)


if __name__ == "__main__":
    main()
