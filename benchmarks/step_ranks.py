"""Images per second of one process on one core, and of two processes on two cores that train as one."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NETWORK = "resnet18"


def compare_ranks(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """The same global batch on one rank and on two, in turn; the records."""
    batch = flags.batch[0] if flags.quick else max(flags.batch)
    found: list[dict[str, Any]] = []
    for repeat in range(1 if flags.quick else 3):
        for ranks in (1, 2):
            paces = _run(ranks, batch, flags)
            found.append({"network": NETWORK, "batch": batch, "ranks": ranks, "repeat": repeat, "images_per_s": paces})
    one, two = ([r["images_per_s"] for r in found if r["ranks"] == ranks] for ranks in (1, 2))
    ratio = sorted(b / a for a, b in zip(one, two, strict=True))[len(one) // 2]
    print(f"\n{NETWORK}, batch {batch} over all ranks, PGD-{flags.attack_steps}, prune step")
    print(
        f"  1 process  {sorted(one)[len(one) // 2]:8.2f} images/s\n  2 processes{sorted(two)[len(two) // 2]:8.2f} images/s"
    )
    print(f"  {ratio:.2f} times, the median of {len(one)} pairs")
    return found


def _run(ranks: int, batch: int, flags: argparse.Namespace) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pace.json"
        command = [sys.executable, str(Path(__file__).resolve()), str(ranks), str(batch), str(flags.attack_steps)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, str(flags.steps), str(out)], check=True, env=environment)
        return float(json.loads(out.read_text(encoding="utf-8")))


def main() -> None:
    import torch

    import harp
    from harp.data import InMemory
    from harp.models import build_model
    from harp.recipes import Compute, Pruning
    from harp.training.distributed import launch, make_fabric, place
    from harp.training.loop import Course, train_step
    from harp.training.optimizer import make_optimizer

    ranks, batch, attack_steps, steps = map(int, sys.argv[1:5])
    compute = Compute(device="cpu", devices=ranks, threads=1)
    fabric = launch(make_fabric(compute), compute)
    torch.manual_seed(0)
    model = place(build_model(NETWORK, shape=(3, 32, 32), classes=10), fabric.device, channels_last=True).train()
    budget = harp.weight_budget(model, keep=0.01)
    rule = harp.Descent(harp.attach_masks(model, budget), budget, steps=1000)
    settings = Pruning(lr=0.01)
    optimizer = fabric.setup_optimizers(make_optimizer(model, settings, rule=rule))
    share = batch // ranks
    x, y = torch.rand(share, 3, 32, 32), torch.arange(share) % 10
    attack = harp.PGD(harp.Threat("linf", 8 / 255), steps=attack_steps, step_size=2 / 255)
    course = Course("benchmark", settings, harp.pgd_at(attack), InMemory(x, y), lambda model: (0.0, 0.0), 0, rule=rule)
    train_step(model, course, fabric, optimizer, x, y)
    fabric.barrier()
    began = time.perf_counter()
    for _ in range(steps):
        train_step(model, course, fabric, optimizer, x, y)
    fabric.barrier()
    pace = batch * steps / (time.perf_counter() - began)
    if fabric.is_global_zero:
        Path(sys.argv[5]).write_text(json.dumps(pace), encoding="utf-8")


if __name__ == "__main__":
    main()
