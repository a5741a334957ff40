"""Whole cells of `harp compare`, in torch and on the engine: prune, finetune, and the standard AutoAttack."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harp.data import ImageData, InMemory
from harp.recipes import Compute, Evaluating, Pruning, Recipe, Task, Training
from harp.stages.evaluate import evaluate_run
from harp.stages.train import finetune, pretrain, prune

NETWORKS = ("vgg_tiny", "vgg_medium")
CLASSES, SIDE = 10, 32
TRAIN, TEST = 2000, 1000


@dataclass(frozen=True)
class Cell:
    """``images`` to train on are at most 2,000, ``attacked`` ones at most 1,000. Attacks take ``steps`` while it learns."""

    images: int = TRAIN
    attacked: int = TEST
    epochs: int = 2
    steps: int = 10
    batch: int = 128


def images() -> ImageData:
    """A pattern for each class under noise: learned in an epoch, and many images survive a small radius."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(CLASSES, 3, SIDE, SIDE, generator=generator)

    def split(count: int) -> InMemory:
        labels = torch.arange(count) % CLASSES
        noise = torch.rand(count, 3, SIDE, SIDE, generator=generator)
        return InMemory(0.5 * patterns[labels] + 0.5 * noise, labels)

    return ImageData("patterns", tuple("0123456789"), split(TRAIN), split(TEST))


def few_images() -> ImageData:
    """The first of them, for a quick look."""
    whole = images()
    return replace(whole, train=whole.train.subset(torch.arange(400)))


def cell(network: str, keep: float, size: Cell, eps: float, threads: int) -> dict[str, dict[str, float]]:
    """Seconds of each part, by what it ran on. Both start from one dense network and end with an evaluation."""
    data = f"{__name__}:{'images' if size.images == TRAIN else 'few_images'}"
    learn: dict[str, Any] = {"epochs": size.epochs, "batch_size": size.batch, "attack_steps": size.steps}
    recipe = Recipe(
        Task(data=data, model=network, eps=eps),
        Training(epochs=5, batch_size=50, objective="natural"),
        Pruning(keep=keep, **learn),
        Training(**learn),
        compute=Compute(device="cpu", threads=threads),
    )
    took: dict[str, dict[str, float]] = {"torch": {}, "sparse": {}}
    with tempfile.TemporaryDirectory() as folder:
        pretrain(recipe, Path(folder) / "dense")
        for on, parts in took.items():
            out, there = Path(folder) / on, replace(recipe, compute=replace(recipe.compute, engine=on))  # type: ignore[arg-type]
            with _timed(parts, "prune"):
                prune(there, Path(folder) / "dense", out / "masks")
            with _timed(parts, "finetune"):
                finetune(there, out / "masks", out / "final")
            with _timed(parts, "AutoAttack"):
                evaluate_run(out / "final", Evaluating(images=size.attacked), there.compute)
    return took


@contextmanager
def _timed(parts: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    parts[name] = time.perf_counter() - began
