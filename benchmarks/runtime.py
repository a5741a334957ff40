"""How fast, small and frugal a pruned network is in harp.runtime, beside dense engines on the same weights.

    python benchmarks/runtime.py --json runs/runtime.json --details results/runtime.json
    python benchmarks/runtime.py --render results/runtime.json --page docs/performance.md
    python benchmarks/runtime.py --quick

Random weights under ERK masks, or a real network with --run or --file. All engines take turns in one process. The time of
a dense engine does not depend on zeros: it is taken once per network, on the weights of the largest keep fraction, in the
race in which all keep fractions of harp take part, and stands in the record of each of them. Run it on an idle machine.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime_networks import KEEPS, NETWORKS, Network, file_network, random_network, run_network
from runtime_page import fill, tables

from harp.bench.engines import NAMES, UNTUNED, Subject, absence, can_write_onnx
from harp.bench.findings import surroundings, write_dense
from harp.bench.probe import probe
from harp.bench.race import Entrant, Race, busy, race, thread_counts
from harp.bench.records import OURS, Record, write_records
from harp.bench.work import sizes_of
from harp.files import write_json
from harp.runtime import peak_gflops
from harp.runtime.format import write as write_file

LOADS = 5
"""The time to the first result is the median of so many fresh processes."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much time to spend. Inductor compiles anew for every batch and thread count, which costs more than all else."""

    seconds: float = 3.0
    rounds: int = 10
    keeps: tuple[float, ...] = KEEPS
    batches: tuple[int, ...] = (1, 64)
    threads: tuple[int, ...] = (1,)
    all_of_inductor: bool = True
    loads: int = LOADS


def main() -> None:
    flags = parse()
    if flags.render is not None:
        details = json.loads(flags.render.read_text(encoding="utf-8"))
        print(fill(flags.page, details) if flags.page else tables(details))
        return
    effort = effort_of(flags)
    left_out = [reason for name in NAMES if (reason := absence(name))] + [note for note in (busy(),) if note]
    details: dict[str, Any] = {"here": surroundings(), "seed": flags.seed, "effort": dataclasses.asdict(effort)}
    details |= {"notes": left_out, "peaks": {threads: peak_gflops(threads) for threads in effort.threads}}
    details |= {"networks": [], "records": []}
    say(f"{details['here']['cpu']}, {details['here']['isa']}, {details['here']['cores']} cores; seed {flags.seed}")
    for note in left_out:
        say(f"note: {note}")
    with tempfile.TemporaryDirectory(prefix="harp-runtime-") as folder:
        for family in families(flags, effort, Path(folder)):
            records, described = measure(family, effort, Path(folder))
            details["records"] += records
            details["networks"] += described
    if flags.json is not None:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        write_records(flags.json, details["records"])
    details["records"] = [dataclasses.asdict(record) for record in details["records"]]
    if flags.details is not None:
        flags.details.parent.mkdir(parents=True, exist_ok=True)
        write_json(flags.details, details)
    print("\n" + tables(json.loads(json.dumps(details))))


def families(flags: argparse.Namespace, effort: Effort, folder: Path) -> list[list[Network]]:
    """Networks of one architecture, the densest first; each is traced and written to a file of its own."""
    found = []
    for name in flags.networks:
        say(f"{name}: random weights, ERK masks at {', '.join(f'{keep:g}' for keep in effort.keeps)}")
        found.append([random_network(name, keep, flags.seed, folder) for keep in sorted(effort.keeps, reverse=True)])
    found += [[run_network(path, folder)] for path in flags.run]
    found += [[file_network(path)] for path in flags.file]
    return found


def measure(family: Sequence[Network], effort: Effort, folder: Path) -> tuple[list[Record], list[dict[str, Any]]]:
    """All records of one architecture, and what is not a matter of time: sizes, first results, work."""
    first = family[0]
    onnx = write_dense(first.file, folder / f"{first.name}.onnx") if can_write_onnx() else None
    dense = Subject(first.file, onnx)
    names = [name for name in NAMES if name != OURS and absence(name) is None]
    memory = {name: memory_of(name, dense, first, effort) for name in names}
    described = [describe(network, dense, effort, folder) for network in family]
    records = []
    for threads in effort.threads:
        for batch in effort.batches:
            say(f"{first.name}: batch {batch}, {threads} thread(s)")
            entrants = {name: Entrant(name, dense) for name in names}
            if not effort.all_of_inductor and (batch, threads) != (1, 1):
                entrants.pop("inductor", None)
            entrants |= {f"{OURS} {n.keep}": Entrant(OURS, Subject(n.file)) for n in family}
            times = race(entrants, Race(first.graph.input, batch, threads, effort.seconds, effort.rounds))
            for network, facts in zip(family, described, strict=True):
                about = (network.name, network.keep, batch, threads)
                records.append(Record(*about, OURS, times[f"{OURS} {network.keep}"], facts["peak_mb"]))
                records += [Record(*about, name, times[name], memory[name]) for name in names if name in times]
    return records, described


def memory_of(name: str, subject: Subject, network: Network, effort: Effort) -> float | None:
    if name == "inductor" and not effort.all_of_inductor:
        return None
    say(f"{network.name}: memory of {name}")
    return probe(name, subject, (1, *network.graph.input), threads=1).peak_mb


def describe(network: Network, dense: Subject, effort: Effort, folder: Path) -> dict[str, Any]:
    """Sizes with either kind of values, memory, the time to the first result."""
    say(f"{network.name} at {network.keep:g}: sizes, memory, time to the first result")
    half = folder / f"{network.file.stem}-f16.harp"
    write_file(half, network.graph, card={}, values="f16")
    image, subject = (1, *network.graph.input), Subject(network.file)
    firsts = [probe(UNTUNED, subject, image, threads=1).first_s for _ in range(effort.loads)]
    return {
        "network": network.name,
        "keep": network.keep,
        "work": dataclasses.asdict(network.work),
        "sizes": {**dataclasses.asdict(sizes_of(network.file, network.graph, dense.onnx)), "f16": half.stat().st_size},
        "peak_mb": probe(OURS, subject, image, threads=1).peak_mb,
        "first_ms": 1e3 * statistics.median(firsts),
    }


def effort_of(flags: argparse.Namespace) -> Effort:
    threads = tuple(thread_counts(flags.threads))
    full = Effort(flags.seconds, keeps=tuple(flags.keeps), batches=tuple(flags.batch), threads=threads)
    if not flags.quick:
        return full
    return dataclasses.replace(full, seconds=0.5, rounds=3, all_of_inductor=False, loads=1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS, help="with random weights")
    parser.add_argument("--keeps", nargs="+", type=float, default=list(KEEPS))
    parser.add_argument(
        "--run", nargs="*", type=Path, default=[], help="run directories of pruned networks, in addition"
    )
    parser.add_argument("--file", nargs="*", type=Path, default=[], help="exported networks, in addition")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 64])
    parser.add_argument(
        "--threads", nargs="+", type=lambda text: text if text == "all" else int(text), default=[1, "all"]
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each engine in each setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="under five minutes: less time for each, Inductor at batch 1 on one thread only",
    )
    parser.add_argument("--json", type=Path, help="write one record for each network, keep, batch, threads and engine")
    parser.add_argument("--details", type=Path, help="write everything measured, from which --render makes tables")
    parser.add_argument("--render", type=Path, help="measure nothing; tables from a file that --details wrote")
    parser.add_argument("--page", type=Path, help="with --render: put the tables between the markers of this page")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
