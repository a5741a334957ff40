"""What harp does on a GPU, in slices of at most nine minutes: give the same command again until it says that all is done.

    python benchmarks/gpu.py --data parcel.npz --out results-gpu        exit code 3: there is more to do, say it again
    python benchmarks/gpu.py --device cpu --quick --out /tmp/rehearsal  a rehearsal without a GPU, on random images

`steps`: seconds of a training step, as gpu_steps.py measures them. `cifar`: pretraining with N-FGSM and with PGD, four methods
at 1 % from the second, finetuning, AutoAttack on --images; the cards carry the GPU's name. Under --out, `results/` is what
should travel back, in all some hundred kB: a JSON for each step measured, the cards, and how long everything took.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gpu_data
import numpy as np
import torch
from gpu_steps import SLOTS, measure

from harp.environment import environment
from harp.files import read_json, write_json
from harp.recipes import Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.stages.evaluate import evaluate_run
from harp.stages.train import finetune, pretrain, prune
from harp.stages.watch import Watch

METHODS = ("harp", "hydra", "lamp", "gmp-lamp")
MORE = 3
"""The exit code that asks for the same command again."""


@dataclass(frozen=True)
class Job:
    """A piece of work by name. It may be interrupted, and then goes on where it was; ``start_s`` is the least worth starting."""

    name: str
    work: Callable[[Watch], object]
    start_s: float = 5.0
    images: int = 0
    """Of an evaluation, for images per second."""


@dataclass(frozen=True)
class Slice:
    """The time that is left in this call, and what earlier ones have finished."""

    out: Path
    ends: float
    clock: Callable[[], float] = time.monotonic

    def run(self, jobs: Sequence[Job]) -> bool:
        """Do what is left of the jobs until the time is over; whether all are done."""
        watch = Watch(should_stop=lambda: self.clock() >= self.ends)
        for job in jobs:
            done = self.out / "results" / "done" / f"{job.name}.json"
            if done.exists():
                continue
            if self.clock() + job.start_s > self.ends:
                return False
            began = self.clock()
            try:
                job.work(watch)
            except KeyboardInterrupt:
                if self.clock() < self.ends:  # not ours: somebody has pressed Ctrl-C
                    raise
                self._spend(job, self.clock() - began)
                return False
            seconds = self._spend(job, self.clock() - began)
            done.parent.mkdir(parents=True, exist_ok=True)
            pace = {"images_per_s": round(job.images / seconds, 2)} if job.images else {}
            write_json(done, {"name": job.name, "seconds": round(seconds, 2), **pace})
            print(f"{job.name}: {seconds:.0f} s", flush=True)
        return True

    def _spend(self, job: Job, seconds: float) -> float:
        """Seconds of a job over all slices."""
        path = self.out / "spent" / f"{job.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        total = seconds + (read_json(path)["seconds"] if path.exists() else 0.0)
        write_json(path, {"seconds": total})
        return total


def recipe_for(flags: argparse.Namespace) -> Recipe:
    """The settings of every stage; with --quick a tiny network and one epoch."""
    precision = "bf16-mixed" if flags.device == "cuda" else "32"
    compute = Compute(device=flags.device, precision=precision, compile=flags.device == "cuda")
    task = Task(data="gpu_data:data", model="vgg_tiny" if flags.quick else "resnet18")
    plain = Training(epochs=1, batch_size=32, attack_steps=2) if flags.quick else Training(epochs=20)
    if flags.quick:
        return Recipe(task, plain, Pruning(epochs=1, batch_size=32, attack_steps=2, keep=0.1), plain, compute=compute)
    return Recipe(task, plain, Pruning(epochs=10, keep=0.01), replace(plain, epochs=10, lr=0.01), compute=compute)


def cifar_jobs(flags: argparse.Namespace) -> list[Job]:
    """Each stage and each evaluation is a job of its own."""
    recipe, runs = recipe_for(flags), flags.out / "runs"
    fast = replace(recipe.pretrain, objective="n-fgsm", epochs=1 if flags.quick else 30)
    jobs = [
        Job("dense-n-fgsm", lambda watch: pretrain(replace(recipe, pretrain=fast), runs / "dense-n-fgsm", watch=watch)),
        Job("dense-pgd", lambda watch: pretrain(recipe, runs / "dense-pgd", watch=watch)),
    ]
    for name in METHODS:
        mine = replace(recipe, prune=replace(recipe.prune, method=name))
        masks, final = runs / f"{name}-masks", runs / name
        jobs += [
            Job(f"{name}-masks", lambda watch, r=mine, o=masks: prune(r, runs / "dense-pgd", o, watch=watch)),
            Job(name, lambda watch, r=mine, m=masks, o=final: finetune(r, m, o, watch=watch)),
        ]
    for name in ("dense-n-fgsm", "dense-pgd", *METHODS):
        jobs.append(Job(f"{name}-evaluated", partial(evaluated, flags, recipe, name), images=flags.images))
    return jobs


def evaluated(flags: argparse.Namespace, recipe: Recipe, name: str, watch: Watch) -> None:
    """AutoAttack, in batches that keep the GPU busy, and the card among the results."""
    run = flags.out / "runs" / name
    asked = Evaluating(attack="pgd" if flags.quick else "autoattack", images=flags.images)
    # A batch that the GPU's memory holds; each attack then runs on full batches of what the ones before it left.
    asked = replace(asked, batch_size=16 if flags.quick else batch_by_memory(flags.device))
    evaluate_run(
        run,
        asked,
        replace(recipe.compute, compile=False, precision="tf32" if flags.device == "cuda" else "32"),
        watch=watch,
    )
    cards = flags.out / "results" / "cards"
    cards.mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "card.json", cards / f"{name}.json")


def batch_by_memory(device: str, *, mib_per_image: float = 24.0, most: int = 500) -> int:
    """Images in a batch of an attack on a ResNet-18 at 32 × 32, by an estimate of the memory that one takes, in hundreds.

    No more than 500: an interrupted evaluation goes on at a batch, and one of them must fit a slice.
    """
    if device != "cuda":
        return 250
    free, _ = torch.cuda.mem_get_info()
    return max(100, min(most, int(free / 2**20 / mib_per_image) // 100 * 100))


def step_jobs(flags: argparse.Namespace) -> list[Job]:
    """One for each network and batch: all of its variants are timed in turns, so that they share what else happens."""
    networks = ("vgg_tiny",) if flags.quick else ("resnet18", "wrn28_4")
    jobs = []
    for network in networks:
        for batch in (16,) if flags.quick else (128, 512):
            name = f"steps-{network}-{batch}"
            jobs.append(Job(name, lambda watch, n=name, k=network, b=batch: timed(flags, n, k, b), SLOTS[flags.quick]))
    return jobs


def timed(flags: argparse.Namespace, name: str, network: str, batch: int) -> None:
    found = measure(network, batch, torch.device(flags.device), quick=flags.quick)
    here = environment(torch.device(flags.device))
    write_json(
        flags.out / "results" / f"{name}.json", {"environment": here, "network": network, "batch": batch, **found}
    )


def random_parcel(path: Path) -> Path:
    """Random images of two brightnesses, for the rehearsal."""
    generator, labels = np.random.default_rng(0), np.arange(160) % 4
    x = (generator.integers(0, 128, (160, 3, 32, 32)) + 40 * labels[:, None, None, None]).astype(np.uint8).clip(0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, x_train=x[:96], y_train=labels[:96], x_test=x[96:], y_test=labels[96:], classes=np.array(list("abcd"))
    )
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="an .npz of gpu_data.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="of one slice")
    parser.add_argument("--only", choices=("steps", "cifar"), help="one half of it")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: tiny networks, one epoch")
    parser.add_argument("--images", type=int, help="test images that AutoAttack is run on, 10,000; 32 with --quick")
    flags = parser.parse_args(arguments)
    flags.images = flags.images or (32 if flags.quick else 10_000)
    if flags.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --quick rehearses")
    if flags.data is None and not flags.quick and flags.only != "steps":
        parser.error("--data is needed: an .npz of benchmarks/gpu_data.py")
    started = Slice(flags.out, time.monotonic() + 60 * flags.minutes)
    os.environ[gpu_data.VARIABLE] = str((flags.data or random_parcel(flags.out / "random.npz")).resolve())
    jobs = [*(step_jobs(flags) if flags.only != "cifar" else []), *(cifar_jobs(flags) if flags.only != "steps" else [])]
    done = started.run(jobs)
    print("all is done" if done else "there is more to do: give the same command again", flush=True)
    return 0 if done else MORE


if __name__ == "__main__":
    sys.exit(main())
