"""Channels: HARP beside uniform HYDRA, LWM and R-ADMM at half and a quarter of the MACs, and how fast what is left runs.

    python benchmarks/channels.py --json results/channels.json --cards results/channels
    python benchmarks/channels.py --latency-only --json results/channels.json    # again, once the machine is idle
    python benchmarks/channels.py --quick                                        # a few minutes, shows that all works

`vgg_tiny` starts from the pretrained parents of the anchor (seed 2 from that of seed 0), `resnet_small` from one parent
a seed, trained here on the same images. `harp compare` prunes, finetunes and evaluates; what is finished is not run again.
Then every network is shrunk, and all of them take turns with their dense parents, in PyTorch and in onnxruntime, on one
thread. Words after these flags go to `harp compare`, such as --prune.multiple-of 8 (with an --out of its own): kernels
like such widths better.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from anchor import ATTACK
from anchor import RECIPE as ANCHOR
from anchor_images import pretrained
from cells import (
    Parent,
    arguments,
    copy_card,
    let_cells_import_this_folder,
    make_parents,
    percent,
    print_header,
)

from harp.bench.engines import ENGINES, Subject
from harp.bench.race import busy
from harp.bench.timing import Times, interleave
from harp.cli import main as harp
from harp.data import ImageData
from harp.environment import environment
from harp.files import write_json
from harp.pruning import macs
from harp.recipes import Evaluating, Recipe, Training
from harp.runs.images import open_data
from harp.runs.network import load_network
from harp.runs.opening import open_run
from harp.stages.export import export_run
from harp.stages.shrink import shrink_run

METHODS = ("harp", "hydra", "lwm", "r-admm")
KEEPS = (0.5, 0.25)
PRETRAINED = 2
"""Seeds with a parent in the anchor's folder."""
NETWORKS = {
    "vgg_tiny": ANCHOR,
    "resnet_small": replace(
        ANCHOR, task=replace(ANCHOR.task, model="resnet_small"), pretrain=Training(epochs=20, **ATTACK)
    ),
}
BATCHES = (1, 64)
Record = dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A network to time: its record, and the run directory that holds it, shrunk when it was pruned."""

    record: Record
    run: Path


def main() -> int:
    flags, more = parse()
    let_cells_import_this_folder()
    torch.set_num_threads(1)
    print_header(
        "Channels", f"10,000 training, 1,000 selection images at 16x16; AutoAttack on {flags.images} test images"
    )
    status = 0
    for network in () if flags.latency_only else flags.networks:
        status = max(status, compare(network, flags.out / network, flags, more))
        if status > 1:  # stopped, or told something impossible
            return status
    busy_note = busy()  # before the first network: its times are the load that the second one would find
    found = []
    for network in flags.networks:
        records = flags.out / network / "records.json"
        if records.exists():
            found += timed(network, records, flags.seconds, busy_note)
    print_table(found)
    if flags.json:
        write_json(flags.json, found)
    for r in found if flags.cards else ():
        copy_card(Path(r["run"]), flags.cards, f"{r['network']}-{r['method']}-{r['keep']:g}-s{r['seed']}")
    return status


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = arguments(__doc__ or "", "channels")
    parser.formatter_class, parser.allow_abbrev = argparse.RawDescriptionHelpFormatter, False
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--images", type=int, default=1000, help="test images of AutoAttack, 1000")
    parser.add_argument("--seconds", type=float, default=1.0, help="to time each network, engine and batch for, 1")
    parser.add_argument("--latency-only", action="store_true", help="run no cell; time those that are finished")
    parser.add_argument("--quick", action="store_true", help="an epoch a stage, PGD-1, 4 images, seed 0")
    parser.set_defaults(seeds=[0, 1, 2])
    flags, more = parser.parse_known_args()
    if flags.quick:
        flags.seeds, flags.images, flags.seconds = [0], 4, 0.1
        flags.out = flags.out.with_name(f"{flags.out.name}-quick")
    return flags, more


def compare(network: str, out: Path, flags: argparse.Namespace, more: Sequence[str]) -> int:
    """Make the parents and every cell that is not finished; ``records.json`` says what there is then."""
    recipe = replace(NETWORKS[network], test=Evaluating(attack="autoattack", images=flags.images))
    parents = parents_of(quick(recipe) if flags.quick else recipe, out, flags.seeds)
    runs = make_parents(parents, flags.jobs)
    words = ["compare", *map(str, runs), "--granularities", "channel", "--methods", *METHODS]
    words += ["--keeps", *map(str, KEEPS), "--seeds", *map(str, flags.seeds), "--jobs", str(flags.jobs)]
    return harp([*words, "--out", str(out), "--json", str(out / "records.json"), *more])


def parents_of(recipe: Recipe, out: Path, seeds: Sequence[int]) -> list[Parent]:
    """One a seed; of the network that the anchor trained there are two, which the seeds take in turn."""
    if recipe.task.model != "vgg_tiny":
        return [Parent(out / f"dense-s{seed}", replace(recipe, seed=seed)) for seed in seeds]
    return [
        Parent(out / f"dense-s{seed}", replace(recipe, seed=seed), pretrained(seed))
        for seed in dict.fromkeys(seed % PRETRAINED for seed in seeds)
    ]


def quick(recipe: Recipe) -> Recipe:
    once = {"epochs": 1, "attack_steps": 1, "attack_step_size": None}
    stages = {name: replace(getattr(recipe, name), **once) for name in ("pretrain", "prune", "finetune")}
    return replace(recipe, **stages)


def timed(network: str, records: Path, seconds: float, busy_note: str | None) -> list[Record]:
    """The finished networks of a comparison with their sizes and, measured in one run, their times."""
    found = json.loads(records.read_text(encoding="utf-8"))
    data = open_data(open_run(Path(found[0]["run"])).recipe)
    finished = [shrunk(network, record, data) for record in found]
    times = latencies([each.run for each in finished], data, seconds)
    where = {"cpu": environment()["cpu"], "torch": environment()["torch"], "busy": busy_note}
    return [each.record | {"latency": times[each.run], "timed": where} for each in finished]


def shrunk(network: str, record: Record, data: ImageData) -> Finished:
    """What a cell's network costs without its pruned channels, which say the same as with them or it raises."""
    run, x = Path(record["run"]), next(data.test.batches(torch.arange(256), 256))[0]
    small = run if record["method"] == "dense" else shrink_run(run, run.parent / "small").path
    model, before = load_network(open_run(small), data).eval(), load_network(open_run(run), data).eval()
    with torch.inference_mode():
        difference = (model(x) - before(x)).abs().max().item()
    if difference > 1e-5:
        raise RuntimeError(f"{small} differs from {run} by {difference:.1e} in the logits")
    sizes = {"macs": macs(model, x[:1]), "parameters": sum(p.numel() for p in model.parameters())}
    return Finished({"network": network, **record, **sizes, "difference": difference}, small)


def latencies(runs: Sequence[Path], data: ImageData, seconds: float) -> dict[Path, dict[str, dict[str, float]]]:
    """Milliseconds by run, then by engine and batch, such as ``torch, 64``: all networks and both engines in turns."""
    times: dict[Path, dict[str, dict[str, float]]] = {run: {} for run in runs}
    with tempfile.TemporaryDirectory(prefix="harp-channels-") as folder:
        engines = [
            (run, name, call)
            for i, run in enumerate(runs)
            for name, call in callers(run, data, Path(folder, f"{i}.onnx"))
        ]
        for batch in BATCHES:
            x = np.random.default_rng(0).random((batch, *data.shape), dtype=np.float32)
            calls = {f"{run} {name}": partial(call, x) for run, name, call in engines}
            found = interleave(calls, seconds=seconds)
            for run, name, _ in engines:
                times[run][f"{name}, {batch}"] = of_times(found[f"{run} {name}"])
    return times


def callers(run: Path, data: ImageData, onnx: Path) -> list[tuple[str, Callable[[np.ndarray], object]]]:
    """The network of a run in both engines, on one thread."""
    model = load_network(open_run(run), data).eval().to(memory_format=torch.channels_last)

    def in_torch(x: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            return model(torch.from_numpy(x).contiguous(memory_format=torch.channels_last))

    export_run(run, onnx, format="onnx")
    return [("torch", in_torch), ("onnxruntime", ENGINES["onnxruntime"].open(Subject(onnx, onnx), 1, 1))]


def of_times(times: Times) -> dict[str, float]:
    kept = ("median_ms", "low_ms", "high_ms", "calls")
    return {name: value for name, value in asdict(times).items() if name in kept}


def print_table(records: Sequence[Record]) -> None:
    engines = list(records[0]["latency"]) if records else []
    print(
        f"\n{'network':13}{'method':>8}{'keep':>6}{'seed':>5}{'MACs':>11}{'parameters':>11}   clean / AutoAttack, %   ms: {'; '.join(engines)}"
    )
    for r in sorted(records, key=lambda r: (r["network"], -r["keep"], r["method"], r["seed"])):
        ms = "  ".join(f"{r['latency'][name]['median_ms']:.3f}" for name in engines)
        both = f"{percent(r['clean'])} / {percent(r['autoattack'])}"
        print(
            f"{r['network']:13}{r['method']:>8}{r['keep']:>6g}{r['seed']:>5}{r['macs']:>11,}{r['parameters']:>11,}   {both:24}{ms}"
        )


if __name__ == "__main__":
    sys.exit(main())
