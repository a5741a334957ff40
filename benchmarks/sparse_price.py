"""What a pruned network costs on the sparse engine, relative to torch: AutoAttack, its memory, and steps of training.

    python benchmarks/sparse_price.py --json price.json   the standard AutoAttack on 64 images, PGD-10 steps: hours
    python benchmarks/sparse_price.py --quick             8 images, fewer iterations and steps
    python benchmarks/sparse_price.py --what finetune     one of autoattack, finetune, prune

Random weights under ERK masks, labels that are the network's own answers, and a radius so small that many images
survive: an attack then takes all of its passes. Torch and engine take turns, AutoAttack by AutoAttack, on as many threads;
the ratio is that of the medians. Memory is what two steps of PGD at batch 128 add to a process of their own,
which holds the network already. Steps of `finetune` and `prune` are those of harp's stages, with PGD; their attack runs
on the engine, the rest in torch; a prune step is the mean over the densities that a stage passes. The floor is the time that the multiply-adds of the weights that are left would take at
the measured peak of the CPU, for one pass forward and one back. Run it on an idle machine.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from runtime_networks import CLASSES, NETWORKS, SHAPE, random_model
from sparse_price_steps import START, finetune, prune
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.bench.findings import surroundings
from harp.bench.race import busy
from harp.evaluation import evaluate
from harp.exporting import Mirror, sparse_module
from harp.files import write_json
from harp.runtime import peak_gflops
from harp.runtime.torch import SparseModule
from harp.stages.engine import race
from harp.training.distributed import peak_memory_bytes

KEEPS = (0.05, 0.01, 0.001)
BATCH = 128
"""Of the step whose memory and floor are told."""
ENGINES = ("torch", "sparse")
WHAT = ("autoattack", "finetune", "prune")


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


QUICK = Effort(images=8, rounds=3, iterations=3, target_classes=3, queries=30)


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
    steps = [record for name in flags.networks for keep in flags.keeps for record in steps_of(name, keep, flags)]
    records += steps
    if steps:
        print("\n| network | keep | step | ratio |\n|---|---|---|---|")
        print("\n".join(f"| {each.network} | {each.keep:g} | {each.what} | {each.ratio:.3f} |" for each in steps))
    if flags.json is not None:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(flags.json, [asdict(record) for record in records])
    if flags.details is not None:
        write_json(flags.details, {"here": here, "seed": flags.seed, "effort": asdict(effort), "records": details})


def steps_of(name: str, keep: float, flags: argparse.Namespace) -> Iterator[Record]:
    """The steps of finetuning and of pruning, as asked for."""
    batch, attack_steps, rounds = (32, 2, 3) if flags.quick else (BATCH, 10, flags.rounds or 3)
    for what in ("finetune", "prune"):
        if what not in flags.what or (what == "prune" and keep >= START):
            continue
        found = (finetune if what == "finetune" else prune)(name, keep, batch, attack_steps, rounds, flags.seed)
        turns = [found] if isinstance(found, dict) else list(found)
        seconds = {on: statistics.mean(turn[on].median for turn in turns) for on in ENGINES}
        shares = {on: statistics.mean(turn[on].attack for turn in turns) for on in ENGINES}
        told = ", ".join(f"{on} {seconds[on]:.2f} s, {shares[on]:.0%} of it the attack" for on in ENGINES)
        say(f"{name} at {keep:g}, a step of {what}, PGD-{attack_steps}, batch {batch}: {told}")
        yield Record(name, keep, what, seconds["sparse"] / seconds["torch"], None, flags.threads)


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
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, with what is held now
    before = peak_memory_bytes(torch.device("cpu"))
    PGD(Threat("linf", eps), steps=2)(attacked, x, y)
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
    parser.add_argument("--no-memory", action="store_true", help="leave the peaks out, which Linux alone tells")
    parser.add_argument("--quick", action="store_true", help="8 images and a shorter AutoAttack: under 8 minutes")
    parser.add_argument("--json", type=Path, help="write one record per network and keep")
    parser.add_argument("--details", type=Path, help="write everything measured")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
