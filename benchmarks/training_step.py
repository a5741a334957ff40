"""What pruning adds to the adversarial training step: every variant in turn, in one process, on one thread.

    python benchmarks/training_step.py                    VGG16-BN and ResNet-18, batches of 32 and 128, PGD-10
    python benchmarks/training_step.py --quick            batch 32, PGD-2, 3 steps each
    python benchmarks/training_step.py --scaling plot.svg the overhead over the number of weights and over the batch
    python benchmarks/training_step.py --hold             an ordinary loop, with and without hold_masks
    python benchmarks/training_step.py --ranks            images per second of one process, and of two that work as one

The variants: `dense`, an adversarial step as a plain PyTorch loop, written out below; `ours-dense`, harp's own step
without masks; `prune` and `finetune`, harp's; `naive`, a masked step that sorts every score at every forward. Steps are
interleaved, so that what else the machine does hits all alike; each variant's peak memory is that of a process that
runs nothing else. `--json FILE` also writes the records down.
"""

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from step_memory import peak_mb
from step_ranks import compare_ranks
from step_scaling import draw_scaling
from step_variants import HOLDING, VARIANTS, Parts, build, share_of_parts

from harp.environment import environment
from harp.files import write_json
from harp.training.distributed import keep_freed_memory

NETWORKS, BATCHES = ("vgg16_bn", "resnet18"), (32, 128)


@dataclass(frozen=True)
class Record:
    """One variant on one network and batch: the median step, its spread, and the peak of a process of its own."""

    network: str
    batch: int
    variant: str
    median_s: float
    peak_mb: float
    spread_s: tuple[float, float]
    """Quickest and slowest step."""
    ratio: float
    """Of the medians of this variant and of the plain loop, step by step: the median of the ratios."""
    steps: int
    attack_steps: int
    seed: int
    parts: dict[str, float]
    """The share of the step that masks, attack and update take."""


def measure(network: str, batch: int, flags: argparse.Namespace) -> list[Record]:
    """Interleave the variants; one step each runs first, to warm up."""
    runs = {
        name: build(name, network, batch, flags.attack_steps, flags.seed)
        for name in (HOLDING if flags.hold else VARIANTS)
    }
    times: dict[str, list[Parts]] = {name: [] for name in runs}
    for number in range(flags.steps + 1):
        for name, step in runs.items():
            parts = step()
            if number > 0:
                times[name].append(parts)
    return [_record(network, batch, name, times, flags) for name in runs]


def _record(network: str, batch: int, name: str, times: dict[str, list[Parts]], flags: argparse.Namespace) -> Record:
    whole = [parts.whole for parts in times[name]]
    ratios = [mine / plain.whole for mine, plain in zip(whole, times["dense"], strict=True)]
    return Record(
        network=network,
        batch=batch,
        variant=name,
        median_s=statistics.median(whole),
        peak_mb=peak_mb(name, network, batch, flags.seed) if flags.memory else 0.0,
        spread_s=(min(whole), max(whole)),
        ratio=statistics.median(ratios),
        steps=len(whole),
        attack_steps=flags.attack_steps,
        seed=flags.seed,
        parts=share_of_parts(times[name]),
    )


def show(records: list[Record]) -> None:
    first = records[0]
    print(f"\n{first.network}, batch {first.batch}, PGD-{first.attack_steps}, {first.steps} steps each")
    print(f"  {'':<11}{'median':>9}{'min':>9}{'max':>9}{'/ dense':>9}{'peak MB':>9}   masks  attack  update")
    for r in records:
        shares = "  ".join(f"{r.parts[part]:6.1%}" for part in ("masks", "attack", "update"))
        print(
            f"  {r.variant:<11}{r.median_s:>7.3f} s{r.spread_s[0]:>7.3f} s{r.spread_s[1]:>7.3f} s"
            f"{r.ratio:>9.3f}{r.peak_mb:>9.0f}  {shares}",
            flush=True,
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--batch", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--attack-steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="batch 32, PGD-2, 3 steps each")
    parser.add_argument("--json", type=Path, help="write the records to this file")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the peaks")
    parser.add_argument("--scaling", type=Path, metavar="SVG", help="draw the overhead instead of measuring variants")
    parser.add_argument("--hold", action="store_true", help="compare an ordinary loop with and without hold_masks")
    parser.add_argument("--ranks", action="store_true", help="compare one process with two instead")
    flags = parser.parse_args()
    if flags.quick:
        flags.batch, flags.attack_steps, flags.steps = (32,), 2, 3
    return flags


def main() -> int:
    flags = parse()
    torch.set_num_threads(1)
    kept = keep_freed_memory()
    here = environment()
    print(f"{here['cpu']}, {here['cores']} cores, 1 thread; {here['platform']}")
    print(f"torch {here['torch']}, Python {here['python']}, harp {here['commit']}; seed {flags.seed}")
    print(f"freed memory is {'kept' if kept else 'returned'} in all variants")
    if flags.scaling is not None or flags.ranks:
        found = draw_scaling(flags) if flags.scaling is not None else compare_ranks(flags)
    else:
        found = []
        for network in flags.network:
            for batch in flags.batch:
                records = measure(network, batch, flags)
                show(records)
                found += [asdict(record) for record in records]
    if flags.json is not None:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(flags.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
