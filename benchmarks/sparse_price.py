"""What a pruned network costs on the sparse engine, relative to torch: AutoAttack, its memory, and steps of training.

    python benchmarks/sparse_price.py --json price.json   the standard AutoAttack on 64 images, PGD-10 steps: hours
    python benchmarks/sparse_price.py --quick             fewer images, iterations, steps and rounds: under 8 minutes
    python benchmarks/sparse_price.py --what finetune     one or more of autoattack, finetune, prune, cell

Random weights under ERK masks, labels that are the network's own answers, and a radius so small that many images
survive: an attack then takes all of its passes. Torch and engine take turns, on as many threads; the ratio is that of the
medians. Torch alone is what harp computed before it had the engine for this. Memory is what two steps at batch 128, of PGD
or of finetuning, add to a process of their own, which holds the network already. Steps of `finetune` and `prune` are those of
harp's stages, with PGD-10; in a prune step the attack runs on the engine and the rest in torch, and it is the mean over the
densities that a stage passes. A `cell` is one of `harp compare`: both stages and AutoAttack, on generated images.

The floor is what the multiply-adds of the weights that are left would take at the measured peak of the CPU: two passes
for each gradient of an attack, three for the step of the weights; moved is what the layers write, once out and once in
again for each of these passes, at the measured speed of copying. Run it on an idle machine.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from runtime_networks import CLASSES, NETWORKS, SHAPE, random_model
from sparse_price_cell import NETWORKS as CELL_NETWORKS
from sparse_price_cell import Cell, cell
from sparse_price_steps import START, finetune, one_step, prune
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.bench.findings import surroundings
from harp.bench.race import busy
from harp.dry_run.stages import macs_and_activations
from harp.evaluation import evaluate
from harp.exporting import Mirror, sparse_module
from harp.files import write_json
from harp.runtime import peak_gflops
from harp.runtime.torch import SparseModule
from harp.stages.engine import race
from harp.training.distributed import keep_freed_memory, peak_memory_bytes

KEEPS = (0.05, 0.01, 0.001)
BATCH = 128
"""Of the step whose memory and floor are told."""
ENGINES = ("torch", "sparse")
WHAT = ("autoattack", "finetune", "prune", "cell")


@dataclass(frozen=True)
class Effort:
    """How much of AutoAttack, on how many images, how often."""

    images: int = 64
    rounds: int = 3
    iterations: int = 100
    target_classes: int = 9
    queries: int = 5000

    def attack(self, threat: Threat, seed: int) -> AutoAttack:
        few = {name: getattr(self, name) for name in ("iterations", "target_classes", "queries")}
        return AutoAttack(threat, seed, **few)


QUICK = Effort(images=8, rounds=1, iterations=3, target_classes=2, queries=20)


@dataclass(frozen=True)
class Record:
    """Engine over torch for one network: the medians of the time, and the peak of the memory."""

    network: str
    keep: float
    what: str
    ratio: float
    peak_ratio: float | None
    threads: int


def main() -> None:
    flags = parse()
    effort = effort_of(flags)
    torch.set_num_threads(flags.threads)
    keep_freed_memory()  # as harp's commands do
    here = surroundings()
    peak = peak_gflops(flags.threads)
    say(f"{here['cpu']}, {here['isa']}, {here['cores']} cores, peak {peak:.0f} GFLOP/s on {flags.threads} thread(s)")
    say(
        f"harp {here['harp']}, torch {here['torch']}, python {here['python']}; seed {flags.seed}, {effort}, eps {flags.eps}"
    )
    for note in filter(None, (busy(),)):
        say(f"note: {note}")
    records, details = [], []
    for name in flags.networks if "autoattack" in flags.what else ():
        in_torch = (
            None if flags.no_memory else memory_of("torch", name, flags.keeps[0], flags)
        )  # zeros change nothing there
        for keep in flags.keeps:
            record, found = measure(name, keep, effort, flags, peak, in_torch)
            records.append(record)
            details.append({**asdict(record), **found})
    if details:
        print("\n" + table(details))
    steps = [each for name in flags.networks for keep in flags.keeps for each in steps_of(name, keep, flags, peak)]
    if "cell" in flags.what:
        steps += [cell_of(name, keep, flags) for name in CELL_NETWORKS for keep in flags.cell_keeps]
    records += [record for record, _ in steps]
    details += [{**asdict(record), **found} for record, found in steps]
    if steps:
        print("\n" + steps_table(steps))
    if flags.json is not None:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(flags.json, [asdict(record) for record in records])
    if flags.details is not None:
        write_json(flags.details, {"here": here, "seed": flags.seed, "effort": asdict(effort), "records": details})


def steps_of(name: str, keep: float, flags: argparse.Namespace, peak: float) -> Iterator[tuple[Record, dict[str, Any]]]:
    """The steps of finetuning and of pruning, as asked for."""
    batch, attack_steps, rounds = (BATCH, 10, 1) if flags.quick else (BATCH, 10, flags.rounds or 3)
    for what in ("finetune", "prune"):
        if what not in flags.what or (what == "prune" and keep >= START):
            continue
        if flags.quick and (what, keep) not in (("finetune", 0.01), ("prune", 0.001)):
            continue
        found = (finetune if what == "finetune" else prune)(name, keep, batch, attack_steps, rounds, flags.seed)
        turns = [found] if isinstance(found, dict) else list(found)
        seconds = {on: statistics.mean(turn[on].median for turn in turns) for on in ENGINES}
        shares = {on: statistics.mean(turn[on].attack for turn in turns) for on in ENGINES}
        told = ", ".join(f"{on} {seconds[on]:.2f} s, {shares[on]:.0%} of it the attack" for on in ENGINES)
        say(f"{name} at {keep:g}, a step of {what}, PGD-{attack_steps}, batch {batch}: {told}")
        added = None
        if not flags.no_memory and what == "finetune":
            added = {on: step_memory(what, on, name, keep, flags) for on in ENGINES}
        peak_ratio = None if added is None else added["sparse"] / added["torch"]
        floor_s, moved_s = floor(name, keep, batch, 2 * attack_steps + 3, flags, peak)
        record = Record(name, keep, what, seconds["sparse"] / seconds["torch"], peak_ratio, flags.threads)
        yield record, {"seconds": seconds, "attack": shares, "added_mb": added, "floor_s": floor_s, "moved_s": moved_s}


def floor(
    name: str, keep: float, batch: int, passes: int, flags: argparse.Namespace, peak: float
) -> tuple[float, float]:
    """Seconds that the multiply-adds of the weights left take at the peak, and the numbers of the layers to be moved."""
    model = random_model(name, keep, flags.seed)
    macs, _ = sparse_module(model, torch.zeros(1, *SHAPE), threads=1).session.macs()
    _, written = macs_and_activations(model, SHAPE, torch.device("cpu"))
    return passes * 2 * macs * batch / (1e9 * peak), passes * 2 * 4 * written * batch / copying_speed()


def copying_speed() -> float:
    """Bytes per second, read and written, of a copy larger than the caches."""
    a = torch.ones(64 * 2**20)
    b, best = torch.empty_like(a), float("inf")
    for _ in range(3):
        began = time.perf_counter()
        b.copy_(a)
        best = min(best, time.perf_counter() - began)
    return 2 * 4 * a.numel() / best


def cell_of(name: str, keep: float, flags: argparse.Namespace) -> tuple[Record, dict[str, Any]]:
    """A whole cell; short ones attack few images."""
    size = Cell(images=400, attacked=4, epochs=3, batch=50) if flags.quick else Cell(attacked=flags.cell_images)
    parts = cell(name, keep, size, flags.cell_eps, flags.threads)
    seconds = {on: sum(parts[on].values()) for on in ENGINES}
    for on in ENGINES:
        say(f"{name} at {keep:g}, a cell, {on}: " + ", ".join(f"{part} {s:.1f} s" for part, s in parts[on].items()))
    record = Record(name, keep, "cell", seconds["sparse"] / seconds["torch"], None, flags.threads)
    return record, {"seconds": seconds, "parts": parts, "size": asdict(size)}


def steps_table(steps: Sequence[tuple[Record, dict[str, Any]]]) -> str:
    lines = [
        "| network | keep | what | torch | engine | ratio | peak | floor | moved | of floor |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record, found in steps:
        took = found["seconds"]
        peak = "–" if record.peak_ratio is None else f"{record.peak_ratio:.2f}"
        floors = "– | – | –"
        if "floor_s" in found:
            of_floor = took["sparse"] / found["floor_s"]
            floors = f"{1e3 * found['floor_s']:.0f} ms | {1e3 * found['moved_s']:.0f} ms | {of_floor:.0f}x"
        lines.append(
            f"| {record.network} | {record.keep:g} | {record.what} | {took['torch']:.2f} s | {took['sparse']:.2f} s "
            f"| {record.ratio:.3f} | {peak} | {floors} |"
        )
    return "\n".join(lines)


def step_memory(what: str, on: str, name: str, keep: float, flags: argparse.Namespace) -> float:
    """Megabytes that two steps add to the peak of a process of their own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_step_mb, what, on, name, keep, flags.seed, flags.threads).result()


def _step_mb(what: str, on: str, name: str, keep: float, seed: int, threads: int) -> float:
    torch.set_num_threads(threads)
    step = one_step(what, on, name, keep, BATCH, 2, seed)
    return _added(lambda: (step(), step()))


def measure(
    name: str, keep: float, effort: Effort, flags: argparse.Namespace, peak: float, in_torch: float | None
) -> tuple[Record, dict[str, Any]]:
    """AutoAttack in torch and on the engine in turns; then one step, and the memory of a step."""
    model = random_model(name, keep, flags.seed).to(memory_format=torch.channels_last)
    x, y = images_for(model, max(effort.images, BATCH))
    engine = sparse_module(model, x[:1], threads=flags.threads)
    attack = effort.attack(Threat("linf", flags.eps), flags.seed)
    few = x[: effort.images], y[: effort.images]
    times: dict[str, list[float]] = {on: [] for on in ENGINES}
    right: dict[str, int] = {}
    for number in range(effort.rounds):
        for on in ENGINES[:: 1 if number % 2 == 0 else -1]:
            times[on].append(timed(model, few, attack, engine if on == "sparse" else None, right))
            say(f"{name} at {keep:g}, round {number + 1}, {on}: {times[on][-1]:.2f} s")
    ratio = statistics.median(times["sparse"]) / statistics.median(times["torch"])
    mirror = Mirror(model, x[:1], threads=flags.threads)
    step_s = dict(zip(ENGINES, race(model, mirror, x[:BATCH], y[:BATCH], None), strict=True))
    added = None if in_torch is None else {"torch": in_torch, "sparse": memory_of("sparse", name, keep, flags)}
    peak_ratio = None if added is None else added["sparse"] / added["torch"]
    macs, dense_macs = engine.session.macs()
    found = {"times_s": times, "right": right, "images": effort.images, "step_s": step_s, "added_mb": added}
    found |= {"macs": macs, "dense_macs": dense_macs, "floor_s": 4 * macs * BATCH / (1e9 * peak)}
    return Record(name, keep, "autoattack", ratio, peak_ratio, flags.threads), found


def images_for(model: nn.Module, images: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(images, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, model(x).argmax(1)


def timed(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    attack: AutoAttack,
    engine: SparseModule | None,
    right: dict[str, int],
) -> float:
    began = time.perf_counter()
    found = evaluate(model, data, attack, look_for_doubts=False, engine=engine)
    took = time.perf_counter() - began
    right[found.engine] = found.correct
    return took


def memory_of(on: str, name: str, keep: float, flags: argparse.Namespace) -> float:
    """Megabytes that two steps of PGD add to the peak of a process of their own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_added_mb, on, name, keep, flags.seed, flags.threads, flags.eps).result()


def _added_mb(on: str, name: str, keep: float, seed: int, threads: int, eps: float) -> float:
    torch.set_num_threads(threads)
    model = random_model(name, keep, seed).to(memory_format=torch.channels_last)
    x, y = torch.rand(BATCH, *SHAPE), torch.arange(BATCH) % CLASSES
    attacked = sparse_module(model, x[:1], threads=threads) if on == "sparse" else model
    return _added(lambda: PGD(Threat("linf", eps), steps=2)(attacked, x, y))


def _added(work: Callable[[], object]) -> float:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, with what is held now
    before = peak_memory_bytes(torch.device("cpu"))
    work()
    after = peak_memory_bytes(torch.device("cpu"))
    if before is None or after is None:
        raise RuntimeError("this system does not tell the memory of a process: --no-memory leaves it out")
    return (after - before) / 1e6


def table(details: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| network | keep | AutoAttack, torch | engine | ratio | peak | step at 128, torch | engine | floor | of floor | right |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in details:
        median = {on: statistics.median(each["times_s"][on]) for on in ENGINES}
        peak = "–" if each["peak_ratio"] is None else f"{each['peak_ratio']:.2f}"
        step, floor = each["step_s"], each["floor_s"]
        right = " / ".join(f"{each['right'][on]} of {each['images']}" for on in ENGINES)
        lines.append(
            f"| {each['network']} | {each['keep']:g} | {median['torch']:.2f} s | {median['sparse']:.2f} s "
            f"| {each['ratio']:.3f} | {peak} | {1e3 * step['torch']:.0f} ms | {1e3 * step['sparse']:.1f} ms "
            f"| {1e3 * floor:.2f} ms | {step['sparse'] / floor:.1f}x | {right} |"
        )
    return "\n".join(lines)


def effort_of(flags: argparse.Namespace) -> Effort:
    chosen = QUICK if flags.quick else Effort()
    asked = {name: getattr(flags, name) for name in ("images", "rounds") if getattr(flags, name) is not None}
    return Effort(**{**asdict(chosen), **asked})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--keeps", nargs="+", type=float, default=list(KEEPS))
    parser.add_argument("--what", nargs="+", default=list(WHAT), choices=WHAT, help="what to measure; all by default")
    parser.add_argument("--images", type=int, help="to attack, 64 by default")
    parser.add_argument("--rounds", type=int, help="of both, in turns; 3 by default")
    parser.add_argument("--eps", type=float, default=0.01 / 255, help="radius in linf, small enough to be survived")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell-keeps", nargs="+", type=float, default=[0.1, 0.01], help="of the cells")
    parser.add_argument("--cell-images", type=int, default=1000, help="that AutoAttack takes in a cell")
    parser.add_argument("--cell-eps", type=float, default=1 / 255, help="radius in linf of the cells")
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks out, which Linux alone tells")
    parser.add_argument("--quick", action="store_true", help="fewer images, steps and networks: under 8 minutes")
    parser.add_argument("--json", type=Path, help="write one record per network and keep")
    parser.add_argument("--details", type=Path, help="write everything measured")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
