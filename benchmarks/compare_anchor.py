"""Every method and plug-in on the anchor: `harp compare` from the two pretrained parents, three seeds, AutoAttack.

    python benchmarks/compare_anchor.py --json results/compare.json --cards results/compare --figure docs/compare.svg

Seeds 0 and 1 prune the parents of their own seeds. There is no third one, so seed 2 prunes parent 0 again: its spread
is that of pruning and finetuning only. Words after these flags go to `harp compare`, such as --jobs 2, --methods harp
hydra or --dry-run. Three to four minutes a cell on one core, 66 cells.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from anchor import parent
from cells import copy_card, let_cells_import_this_folder, make_parents, print_header
from compare_figure import draw

from harp.cli import main as harp

METHODS = ("harp", "rates-only", "hydra", "r-admm", "lwm", "global", "erk", "lamp")
METHODS += ("harp+s2ap", "harp+awp", "harp+s2ap+awp")
SEEDS = (0, 1, 2)
PRETRAINED = (0, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/compare-anchor"), help="directory of all runs")
    parser.add_argument("--json", type=Path, help="write one record per network to this file")
    parser.add_argument("--cards", type=Path, help="copy every card, and the page, into this directory")
    parser.add_argument("--figure", type=Path, help="draw the accuracies of all networks into this SVG file")
    flags, more = parser.parse_known_args()
    let_cells_import_this_folder()
    print_header("Anchor, all methods", "10,000 training, 1,000 selection, 2,000 test images at 16x16; vgg_tiny")
    parents = make_parents([parent(seed, flags.out) for seed in PRETRAINED], processes=1)
    records = flags.json or flags.out / "records.json"
    words = ["compare", *map(str, parents), "--methods", *METHODS, "--keeps", "0.1", "0.01"]
    words += ["--seeds", *map(str, SEEDS), "--out", str(flags.out), "--json", str(records)]
    status = harp([*words, *more])
    found = json.loads(records.read_text(encoding="utf-8")) if records.exists() else []
    if flags.figure and found:
        draw(found, flags.figure)
    for r in found if flags.cards else ():
        copy_card(Path(r["run"]), flags.cards, f"{r['method']}-{r['keep']:g}-s{r['seed']}")
    if flags.cards and found and (flags.out / "report.html").exists():  # stopped before the first cell, there is none
        shutil.copyfile(flags.out / "report.html", flags.cards / "report.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
