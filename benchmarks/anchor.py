"""The anchor: HARP, HYDRA and uniform magnitude from the same robust parents, beside the published code's numbers.

    python benchmarks/anchor.py --json runs/anchor.json --cards results/anchor

Same images, same pretrained weights, same number of passes as the reference runs. About two hours on two cores.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from anchor_images import pretrained
from cells import Parent, accuracy, arguments, carry_out, copy_card, make_parents, percent, print_header

from harp.compare import ComparePlan
from harp.files import read_json, write_json
from harp.recipes import Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.runs.directory import RunDirectory

REFERENCE = {
    ("dense", 1.0): ((44.6, 24.4), (45.9, 25.2)),
    ("harp", 0.1): ((44.7, 25.4), (43.9, 24.6)),
    ("hydra", 0.1): ((42.1, 24.6), (43.2, 24.8)),
    ("lwm", 0.1): ((40.0, 22.2), (42.0, 22.2)),
    ("harp", 0.01): ((37.2, 23.2), (37.5, 23.5)),
    ("hydra", 0.01): ((25.8, 21.5), (26.2, 21.3)),
    ("lwm", 0.01): ((18.8, 15.8), (21.4, 16.7)),
}
"""(method, keep) → (clean, PGD-20) in % of seeds 0 and 1: the published code, patched to run on a CPU."""
REFERENCE_AUTOATTACK = {("dense", 1.0): 21.2, ("harp", 0.1): 22.4, ("hydra", 0.1): 22.0, ("lwm", 0.1): 19.7} | {
    ("harp", 0.01): 18.9,
    ("hydra", 0.01): 20.5,
    ("lwm", 0.01): 14.6,
}
"""In % of seed 0, 1,000 images."""

ATTACK = {"attack_steps": 5, "attack_step_size": 2 / 255}
RECIPE = Recipe(
    task=Task(data="anchor_images:anchor_images", model="vgg_tiny", eps=8 / 255),
    pretrain=Training(**ATTACK),
    prune=Pruning(epochs=10, **ATTACK),
    finetune=Training(epochs=10, lr=0.1, **ATTACK),
    compute=Compute(device="cpu", threads=1),
)
PGD20 = Evaluating(attack="pgd", steps=20, step_size=2 / 255, images=None, batch_size=500)
AUTOATTACK = Evaluating(attack="autoattack", images=1000)


def main() -> None:
    parser = arguments(__doc__ or "", "anchor")
    parser.add_argument("--keeps", type=float, nargs="+", default=[0.1, 0.01])
    parser.add_argument("--methods", nargs="+", default=["harp", "hydra", "lwm"])
    flags = parser.parse_args()
    print_header("Anchor", "CIFAR-10 (JPEG) at 16x16: 10,000 training, 1,000 selection, 2,000 test images; vgg_tiny")
    comparison = ComparePlan(
        recipe=RECIPE,
        out=flags.out,
        methods=tuple(flags.methods),
        keeps=tuple(flags.keeps),
        seeds=tuple(flags.seeds),
        parents=make_parents([parent(seed, flags.out) for seed in flags.seeds], flags.jobs),
    )
    carry_out(comparison, (PGD20, AUTOATTACK), flags.jobs)
    runs = [*(cell.final for cell in comparison.cells), *comparison.dense]
    records = [record(read_json(RunDirectory(path).card)) for path in runs]
    print_table(records, flags.seeds)
    if flags.json:
        write_json(flags.json, records)
    for path, r in zip(runs, records, strict=True):
        if flags.cards:
            copy_card(path, flags.cards, f"{r['method']}-{r['keep']:g}-s{r['seed']}")


def parent(seed: int, out: Path) -> Parent:
    """The pretrained parent of a seed, in the folder of a comparison."""
    return Parent(out / f"dense-s{seed}", replace(RECIPE, seed=seed), pretrained(seed))


def record(card: dict) -> dict:
    attacks = {"clean": "clean", "pgd20": "pgd-20", "autoattack": "autoattack"}
    return {
        "method": card["method"] or "dense",
        "keep": card["keep"],
        "seed": card["seed"],
        **{name: accuracy(card, attack) for name, attack in attacks.items()},
        "kept": card["kept"],
        "total": card["total"],
    }


def print_table(records: list[dict], seeds: list[int]) -> None:
    print(f"\n{'':14}{'seed':>5}{'kept':>8}   clean / PGD-20 / AutoAttack, %      reference")
    for r in sorted(records, key=lambda r: (-r["keep"], r["method"], r["seed"])):
        key = (r["method"], r["keep"])
        reference = REFERENCE.get(key, ())
        pair = " / ".join(map(str, reference[r["seed"]])) if r["seed"] < len(reference) else "–"
        attacked = f" / {REFERENCE_AUTOATTACK[key]}" if r["seed"] == 0 and key in REFERENCE_AUTOATTACK else ""
        ours = " / ".join(percent(r[name]) for name in ("clean", "pgd20", "autoattack"))
        print(f"{r['method']:>8} {r['keep']:>5.0%}{r['seed']:>5}{r['kept']:>8,}   {ours:32} {pair}{attacked}")


if __name__ == "__main__":
    main()
