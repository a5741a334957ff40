"""Is learning stable? Density and keep fractions over the prune stage, a plain and a residual network, four budgets.

    python benchmarks/stability.py --json runs/stability.json --cards results/stability --figure docs/stability.svg

HARP against HYDRA from the same parents, AutoAttack on 500 images. `vgg_tiny` learns the anchor's images,
`resnet_small` Fashion-MNIST at 7x7. About three quarters of an hour on two cores.
"""

import argparse
import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from anchor import RECIPE as ANCHOR
from anchor_images import pretrained
from cells import Parent, accuracy, arguments, carry_out, copy_card, make_parents, percent, print_header

from harp.compare import Cell, ComparePlan
from harp.files import read_json, write_json
from harp.recipes import Evaluating, Pruning, Task, Training
from harp.runs.directory import RunDirectory

PHOTOGRAPHS = {"attack_steps": 3, "attack_step_size": 4 / 255}
GARMENTS = {"attack_steps": 3, "attack_step_size": 0.075}
PRUNE, FINETUNE = 8, 3
"""Epochs, fewer than in the anchor: there are many cells, and the question is how density and fractions behave."""
NETWORKS = {
    "vgg_tiny": replace(
        ANCHOR,
        prune=Pruning(epochs=PRUNE, **PHOTOGRAPHS),
        finetune=Training(epochs=FINETUNE, lr=0.1, **PHOTOGRAPHS),
    ),
    "resnet_small": replace(
        ANCHOR,
        task=Task(data="fashion_subset:fashion_subset", model="resnet_small", eps=0.15),
        pretrain=Training(epochs=12, **GARMENTS),
        prune=Pruning(epochs=PRUNE, **GARMENTS),
        finetune=Training(epochs=FINETUNE, lr=0.1, **GARMENTS),
    ),
}
KEEPS = (0.05, 0.02, 0.01, 0.001)
METHODS = ("harp", "hydra")
AUTOATTACK = Evaluating(attack="autoattack", images=500)


def parent(network: str, seed: int, out: Path) -> Parent:
    weights = pretrained(seed) if network == "vgg_tiny" else None
    return Parent(out / f"dense-s{seed}", replace(NETWORKS[network], seed=seed), weights)


def main() -> None:
    parser = arguments(__doc__ or "", "stability")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--keeps", type=float, nargs="+", default=list(KEEPS))
    parser.add_argument("--figure", type=Path, help="draw density and keep fractions over epochs into this SVG file")
    flags = parser.parse_args()
    print_header("Stability", f"{PRUNE} + {FINETUNE} epochs of PGD-3; AutoAttack on 500 test images")
    comparisons = [comparison_of(network, flags) for network in flags.networks]
    for comparison in comparisons:
        carry_out(comparison, (AUTOATTACK,), flags.jobs)
    cells = [cell for comparison in comparisons for cell in comparison.cells]
    found = [(cell.final, stability_of(cell), cell.recipe) for cell in cells]
    found += [(path, {}, comparison.recipe) for comparison in comparisons for path in comparison.dense]
    records = []
    for path, stability, recipe in found:
        r = record(read_json(RunDirectory(path).card), stability, recipe.task.model)
        records.append(r)
        if flags.cards:
            copy_card(path, flags.cards, f"{r['network']}-{r['method']}-{r['keep']:g}-s{r['seed']}")
    print_table(records)
    if flags.json:
        write_json(flags.json, records)
    if flags.figure:
        from stability_figure import draw

        harp = [cell for cell in cells if cell.recipe.prune.method == "harp"]
        shown = dict.fromkeys((cell.recipe.task.model, cell.recipe.prune.keep) for cell in harp)
        runs = {
            key: [epochs_of(cell) for cell in harp if (cell.recipe.task.model, cell.recipe.prune.keep) == key]
            for key in shown
        }
        draw([(network, keep, metrics) for (network, keep), metrics in runs.items()], flags.figure)


def comparison_of(network: str, flags: argparse.Namespace) -> ComparePlan:
    """HARP and HYDRA on one network, in a folder of its own, from parents that are made first."""
    out = flags.out / network
    return ComparePlan(
        recipe=NETWORKS[network],
        out=out,
        methods=METHODS,
        keeps=tuple(flags.keeps),
        seeds=tuple(flags.seeds),
        parents=make_parents([parent(network, seed, out) for seed in flags.seeds], flags.jobs),
    )


def epochs_of(cell: Cell) -> list[dict]:
    lines = RunDirectory(cell.masks).metrics.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def stability_of(cell: Cell) -> dict:
    """When the density met the budget, as a share of the prune stage, and the largest rise of one layer in an epoch."""
    epochs = epochs_of(cell)
    met = next((e["epoch"] + 1 for e in epochs if e["met_budget"]), None)
    rises = [
        after["layers"][name] - before["layers"][name] for before, after in pairwise(epochs) for name in after["layers"]
    ]
    return {"met_at": None if met is None else met / len(epochs), "largest_rise": max(rises, default=0.0)}


def record(card: dict, stability: dict, network: str) -> dict:
    return {
        "network": network,
        "method": card["method"] or "dense",
        "keep": card["keep"],
        "seed": card["seed"],
        "clean": accuracy(card, "clean"),
        "autoattack": accuracy(card, "autoattack"),
        "kept": card["kept"],
        "total": card["total"],
        **stability,
    }


def print_table(records: list[dict]) -> None:
    print(
        f"\n{'network':13}{'method':>7}{'keep':>7}{'seed':>5}{'kept':>8}   clean / AutoAttack, %   budget met at   largest rise"
    )
    for r in sorted(records, key=lambda r: (r["network"], -r["keep"], r["method"], r["seed"])):
        both = f"{percent(r['clean'])} / {percent(r['autoattack'])}"
        met = f"{r['met_at']:.0%} of the stage" if r.get("met_at") is not None else "–"
        rise = f"{r['largest_rise']:+.3f}" if "largest_rise" in r else "–"
        print(
            f"{r['network']:13}{r['method']:>7}{r['keep']:>7.1%}{r['seed']:>5}{r['kept']:>8,}   {both:22} {met:>16}{rise:>13}"
        )


if __name__ == "__main__":
    main()
