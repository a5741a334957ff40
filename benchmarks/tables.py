"""Write the tables of the documentation from what was measured, so that no number is typed by hand.

    python benchmarks/tables.py            # rewrite README.md and docs/ in place
    python benchmarks/tables.py --check    # exit 1 when a page no longer says what results/ holds

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; what it shows lies in `results/`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import channel_tables
import compare_tables
from cells import percent

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    DOCS / "results.md",
    DOCS / "performance.md",
    DOCS / "training-cost.md",
    DOCS / "explanation" / "budget-and-descent.md",
    DOCS / "how-to" / "deploy.md",
)
TITLES = {"harp": "HARP", "hydra": "HYDRA", "lwm": "LWM"}
Record = dict[str, Any]


def cards_of(name: str) -> list[Record]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / name).glob("*.json"))]


def records_of(name: str) -> list[Record]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rows(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def networks(name: str) -> str:
    """One line per network: what it keeps, and its accuracies with their intervals."""
    order = ["dense", "harp", "hydra", "lwm"]
    cards = sorted(cards_of(name), key=lambda card: order.index(card["method"] or "dense"))
    return rows(
        ["", "weights kept", "clean", "AutoAttack"],
        [
            [c["name"], f"{c['kept']:,} of {c['total']:,}", interval(c, "clean"), interval(c, "autoattack")]
            for c in cards
        ],
    )


def interval(card: Record, attack: str) -> str:
    found = next(e for e in card["evaluations"] if e["attack"] == attack)
    return f"{percent(found['accuracy'])} ({percent(found['low'])}–{percent(found['high'])})"


def anchor() -> str:
    from anchor import REFERENCE, REFERENCE_AUTOATTACK

    records = records_of("anchor")
    body = []
    for (method, keep), theirs in REFERENCE.items():
        ours = [r for r in records if (r["method"], r["keep"]) == (method, keep)]
        body.append(
            [
                "dense parent" if method == "dense" else f"{TITLES[method]}, {100 * keep:g} %",
                " / ".join(f"{mean(pair[i] for pair in theirs):.1f}" for i in (0, 1)),
                f"{REFERENCE_AUTOATTACK[method, keep]}",
                " / ".join(percent(mean(r[part] for r in ours)) for part in ("clean", "pgd20")),
                ", ".join(percent(r["autoattack"]) for r in sorted(ours, key=lambda r: r["seed"])),
            ]
        )
    return rows(["", "published code: clean / PGD-20", "AutoAttack", "harp: clean / PGD-20", "AutoAttack"], body)


def stability() -> str:
    records = [r for r in records_of("stability") if r["method"] != "dense"]
    keys = sorted({(r["network"], r["keep"]) for r in records}, key=lambda key: (key[0], -key[1]))
    body = []
    for network, keep in keys:
        here = [r for r in records if (r["network"], r["keep"]) == (network, keep)]
        harp, hydra = ([r for r in here if r["method"] == method] for method in ("harp", "hydra"))
        body.append(
            [
                network,
                f"{100 * keep:g} %",
                f"{harp[0]['kept']:,} of {harp[0]['total']:,}",
                ", ".join(f"{r['met_at']:.0%}" for r in harp),
                f"{max(r['largest_rise'] for r in harp):+.3f}",
                *(", ".join(f"{percent(r['clean'])} / {percent(r['autoattack'])}" for r in of) for of in (harp, hydra)),
            ]
        )
    return rows(["", "keep", "weights kept", "budget met at", "largest rise", "HARP", "HYDRA"], body)


def training_step() -> str:
    """Every variant of `training_step.py`, a line each."""
    body = [
        [
            f"{r['network']}, {r['batch']}" if r["variant"] == "dense" else "",
            r["variant"],
            f"{r['median_s']:.2f} ({r['spread_s'][0]:.2f}–{r['spread_s'][1]:.2f})",
            f"{r['ratio']:.3f}",
            f"{r['peak_mb']:,.0f}",
            *(f"{100 * r['parts'][part]:.1f}" for part in ("masks", "attack")),
        ]
        for r in records_of("training-step")
    ]
    header = ["network, batch", "variant", "step, s", "/ dense", "peak, MB", "masks, %", "attack, %"]
    return rows(header, body)


def training_cost() -> str:
    """The figure of `training_step.py --scaling`, and the numbers in it."""
    records = [] if not (RESULTS / "training-cost.json").exists() else records_of("training-cost")
    if not records:
        return "It was not measured on an idle machine yet."
    first = records[0]
    body = [
        [
            f"{r['weights'] / 1e6:.1f} M",
            str(r["batch"]),
            f"{r['dense_s']:.3f} s",
            f"{r['prune']:.3f}",
            f"{r['finetune']:.3f}",
        ]
        for r in records
    ]
    return (
        "![What masks add to a step, over the number of weights and over the batch](training-cost.svg)\n\n"
        f"{first['cpu']}, one thread, torch {first['torch']}, commit {first['commit']}; PGD-{first['attack_steps']}, the "
        f"median over {first['steps']} steps in turn, seed {first['seed']}.\n\n"
        + rows(["weights", "batch", "dense step", "prune / dense", "finetune / dense"], body)
    )


def microcontroller() -> str:
    """A line per network and form, the dense one last."""
    body = [
        [
            f"{r['network']}, {r['origin']}" if r["by"] == "harp, f32" else "",
            r["by"],
            f"{r['flash_bytes']:,}",
            f"{r['static_bytes'] + r['stack_bytes'] + r['image_bytes']:,}",
            f"{r['instructions']:,}",
            f"{r['other_classes']} of {r['images']}",
        ]
        for r in json.loads((RESULTS / "microcontroller.json").read_text(encoding="utf-8"))["records"]
    ]
    return rows(
        ["network at 1 %", "C by", "flash, bytes", "RAM, bytes", "instructions per image", "other classes"], body
    )


TABLES: dict[str, Callable[[], str]] = {
    "demo": lambda: networks("demo"),
    "cifar10-jpeg": lambda: networks("cifar10-jpeg"),
    "anchor": anchor,
    "stability": stability,
    "training-step": training_step,
    "training-cost": training_cost,
    "compare": lambda: rows(*compare_tables.accuracies(records_of("compare"))),
    "compare-harp": lambda: rows(*compare_tables.beside_harp(records_of("compare"))),
    "channels": lambda: rows(*channel_tables.accuracies(records_of("channels"))),
    "channel-latency-8": lambda: rows(*channel_tables.latencies(records_of("channels-8"))),
    "microcontroller": microcontroller,
    "channel-latency": lambda: rows(*channel_tables.latencies(records_of("channels"))),
}


def rewritten(text: str) -> str:
    """The page with every table as it is measured. Raises ValueError for a table that does not exist."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            raise ValueError(f"table: {name} is none of {list(TABLES)}")
        return f"<!-- table: {name} -->\n\n{TABLES[name]()}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (?P<name>[\w-]+) -->\n.*?<!-- end -->", fill, text, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if rewritten(text) != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(rewritten(text), encoding="utf-8")
    print(f"stale: {stale}" if check else f"rewritten: {stale}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
