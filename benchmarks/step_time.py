"""What a step costs: dense, pruning with masks held and not held, finetuning, all with PGD-10.

    python benchmarks/step_time.py --model vgg16_bn --batch 32

Prints the best of several steps, with the hardware. Run it on an idle machine. `--return-memory` leaves glibc's malloc as
it comes, which harp's stages do not: compare both.
"""

import argparse
import time
from contextlib import nullcontext

import torch
from torch import nn

import harp
from harp.cards import environment
from harp.devices import keep_freed_memory
from harp.models import MODELS, build_model
from harp.optimizers import make_optimizer
from harp.recipes import Pruning

THREAT = harp.Threat("linf", eps=8 / 255)


def seconds(model: nn.Module, steps: int, batch: int, *, rule: harp.Descent | None = None, hold: bool = True) -> float:
    """The best of some steps; one more runs first, to warm up."""
    loss = harp.pgd_at(harp.PGD(THREAT, steps=10, step_size=2 / 255))
    optimizer = make_optimizer(model, Pruning(), rule=rule)
    model = model.train().to(memory_format=torch.channels_last)
    x, y = torch.rand(batch, 3, 32, 32).to(memory_format=torch.channels_last), torch.arange(batch) % 10
    best = float("inf")
    for _ in range(steps + 1):
        began = time.perf_counter()
        with harp.hold_masks(model) if hold else nullcontext():
            optimizer.zero_grad()
            loss(model, x, y).backward()
        optimizer.step()
        if rule is not None:
            rule.step()
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", choices=sorted(MODELS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--return-memory", action="store_true")
    flags = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(flags.threads)
    kept = not flags.return_memory and keep_freed_memory()
    here = environment()
    print(f"{here['cpu']}, {flags.threads} thread(s); torch {here['torch']}, harp {here['commit']}")
    print(f"{flags.model}, batch {flags.batch}, PGD-10; freed memory is {'kept' if kept else 'returned'}\n")
    model = build_model(flags.model, shape=(3, 32, 32), classes=10)
    dense = report("dense", seconds(model, flags.steps, flags.batch))
    budget = harp.weight_budget(model, keep=0.01)
    harp.attach_masks(model, budget)
    rule = harp.Descent(model, budget, steps=100)
    report("prune, masks held", seconds(model, flags.steps, flags.batch, rule=rule), dense)
    report("prune, not held", seconds(model, flags.steps, flags.batch, rule=rule, hold=False), dense)
    harp.freeze_masks(model)
    report("finetune", seconds(model, flags.steps, flags.batch), dense)


def report(what: str, elapsed_s: float, dense_s: float | None = None) -> float:
    print(f"{what:<20}{elapsed_s:8.3f} s" + ("" if dense_s is None else f"{elapsed_s / dense_s:8.2f}x"), flush=True)
    return elapsed_s


if __name__ == "__main__":
    main()
