"""What harp does to the networks that people have: weights to 5 %, channels to half of the MACs, export, speed.

    python benchmarks/coverage.py --json coverage.json [--jobs 4] [--only NAME …]

One process for each network of `coverage.txt`, so that none takes another down. Records are appended to the file as they
come, and what is there is not tried again. Each of `weights`, `channels` and `export` is `ok` or the message.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import harp
import harp.runtime

LIST = Path(__file__).with_name("coverage.txt")
KEEP, CHANNELS = 0.05, 0.5
CLASSES = 10
ROUNDS = 5


@dataclass
class Record:
    """What became of one network; ``None`` where an earlier part failed."""

    network: str
    source: str
    weights: str | None = None
    channels: str | None = None
    export: str | None = None
    difference: float | None = None
    harp_ms: float | None = None
    onnxruntime_ms: float | None = None


def build(source: str, name: str) -> tuple[nn.Module, int]:
    """A network with random weights, in eval mode, and the side of its images."""
    torch.manual_seed(0)
    if source == "timm":
        import timm

        model = timm.create_model(name, pretrained=False, num_classes=CLASSES)
        config: Any = model.default_cfg
        return model.eval(), int(config["input_size"][-1])
    import torchvision

    extra = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **extra)
    return model.eval(), 299 if name == "inception_v3" else 224


def attempt(record: Record, part: str, work: Callable[[], None]) -> None:
    """Whatever goes wrong with somebody's network is the result."""
    try:
        work()
        setattr(record, part, "ok")
    except Exception as error:
        setattr(record, part, f"{type(error).__name__}: {str(error)[:300]}")


def try_network(source: str, name: str) -> Record:
    record = Record(name, source)
    model, side = build(source, name)
    images = torch.rand(2, 3, side, side)
    attempt(record, "weights", lambda: prune_weights(model))
    attempt(record, "channels", lambda: prune_channels(build(source, name)[0], images))
    attempt(record, "export", lambda: export(record, model, images))
    return record


def prune_weights(model: nn.Module) -> None:
    budget = harp.weight_budget(model, keep=KEEP)
    harp.attach_masks(model, budget, harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    kept = sum(int(w.count_nonzero()) for name, w in model.named_parameters() if name in budget.sites)
    if kept > budget.limit:
        raise ValueError(f"{kept:,} weights are left of at most {budget.limit:,}")


def prune_channels(model: nn.Module, images: Tensor) -> None:
    harp.attach_masks(model, harp.channel_budget(model, images[:1], keep=CHANNELS), harp.methods.LWM)
    harp.bake_masks(harp.freeze_masks(model))
    with torch.no_grad():
        expected = model(images)
        found = harp.shrink(model, images[:1])(images)
    off = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    if off > 1e-4:
        raise ValueError(f"the smaller network is off by {off:.1e}")


def export(record: Record, model: nn.Module, images: Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, dense = Path(folder) / "net.harp", Path(folder) / "net.onnx"
        record.difference = harp.export(model, images, file).agreement.difference
        session = harp.runtime.load(file, threads=1)
        one = images[:1].numpy()
        record.harp_ms = milliseconds(lambda: session(one))
        try:
            harp.export(model, images[:1], dense, format="onnx", tolerance=1.0)
        except ValueError:
            return
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        runs = onnxruntime.InferenceSession(dense, options, providers=["CPUExecutionProvider"])
        record.onnxruntime_ms = milliseconds(lambda: runs.run(None, {"images": one}))


def milliseconds(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def in_a_process(network: tuple[str, str], limit_s: float) -> Record:
    source, name = network
    command = [sys.executable, __file__, "--one", source, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return Record(name, source, export=f"not done after {limit_s:g} s")
    if done.returncode:
        return Record(name, source, export=f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return Record(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("coverage.json"), help="one record a line; appended to")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=600.0, help="for one network")
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME")
    parser.add_argument("--one", nargs=2, metavar=("SOURCE", "NAME"), help="in this process, to the standard output")
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(1)
        print(json.dumps(asdict(try_network(*args.one))))
        return
    lines = args.json.read_text().splitlines() if args.json.exists() else []
    done = {(record["source"], record["network"]) for record in map(json.loads, lines)}
    networks = [(line.split()[0], line.split()[1]) for line in LIST.read_text().splitlines()]
    wanted = [pair for pair in networks if pair not in done and (args.only is None or pair[1] in args.only)]
    with ThreadPoolExecutor(args.jobs) as pool, args.json.open("a") as file:
        for record in pool.map(lambda pair: in_a_process(pair, args.limit_s), wanted):
            print(json.dumps(asdict(record)), file=file, flush=True)
            print(f"{record.network}: {record.weights}, {record.channels}, {record.export}", flush=True)


if __name__ == "__main__":
    main()
