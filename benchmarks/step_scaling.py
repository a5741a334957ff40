"""How what pruning adds grows: over the number of weights, and over the batch; drawn as SVG."""

import argparse
import statistics
from typing import Any

from step_figure import Line, draw
from step_variants import build_on
from torch import nn

from harp.environment import environment

WIDTHS = {1: 192, 3: 332, 10: 606, 30: 1050, 100: 1916}
"""Millions of weights → channels of the three convolutions that hold nearly all of them."""
BATCHES = (16, 32, 64, 128)
FEW, SOME = 32, 606
"""The batch while the weights grow, and the channels while the batch grows."""


def network(width: int) -> nn.Module:
    """Three 3×3 convolutions of ``width`` channels on 4 × 4 cells: many weights for few operations, the worst case."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 8, stride=8, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def draw_scaling(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure, print and draw; the records."""
    few = 2 if flags.quick else None
    by_weights = [_overhead(width, FEW, flags) for width in [*WIDTHS.values()][:few]]
    by_batch = [_overhead(SOME, batch, flags) for batch in BATCHES[:few]]
    lines = [
        Line(f"weights (batch {FEW})", [(r["weights"], r) for r in by_weights]),
        Line(f"batch ({network_weights(SOME) / 1e6:.0f} M weights)", [(r["batch"], r) for r in by_batch]),
    ]
    draw(lines, flags.attack_steps, flags.scaling)
    print(f"drawn in {flags.scaling}")
    here = environment()
    where = {name: here[name] for name in ("cpu", "torch", "commit")}
    how = {"steps": flags.steps, "attack_steps": flags.attack_steps, "seed": flags.seed}
    return [{**record, **how, **where} for record in by_weights + by_batch]


def network_weights(width: int) -> int:
    return sum(m.weight.numel() for m in network(width).modules() if isinstance(m, nn.Conv2d | nn.Linear))


def _overhead(width: int, batch: int, flags: argparse.Namespace) -> dict[str, Any]:
    variants = ("ours-dense", "prune", "finetune")
    runs = {name: build_on(name, network(width), batch, flags.attack_steps, flags.seed) for name in variants}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(flags.steps + 1):
        for name, step in runs.items():
            whole = step().whole
            if number > 0:
                times[name].append(whole)
    record: dict[str, Any] = {"width": width, "weights": network_weights(width), "batch": batch}
    record["dense_s"] = statistics.median(times["ours-dense"])
    for name in variants[1:]:
        ratios = [mine / dense for mine, dense in zip(times[name], times["ours-dense"], strict=True)]
        record[name] = statistics.median(ratios)
    print(
        f"  {record['weights'] / 1e6:6.1f} M weights, batch {batch:4}: dense {record['dense_s']:.3f} s, "
        f"prune {record['prune']:.3f}, finetune {record['finetune']:.3f} times that",
        flush=True,
    )
    return record
