"""What the tests on a GPU share: where they run, a small network, images, and recipes of stages that take a second."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.attacks import Threat
from harp.data import ImageData, InMemory
from harp.recipes import Compute, Pruning, Recipe, Task, Training

DEVICE = os.environ.get("HARP_TEST_DEVICE", "cuda")
"""``cpu`` rehearses these tests without a GPU: both sides are then computed on the CPU."""
REASON = "no CUDA device; `make test-gpu` on a machine that has one"
EPS = 0.1
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read before the first product of the process


def need_gpu() -> None:
    """Skips the file that calls it where there is no GPU."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip(REASON, allow_module_level=True)


def images(n: int, seed: int) -> InMemory:
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return InMemory(noise * 0.5 + labels[:, None, None, None] * 0.25, labels)


def data() -> ImageData:
    return ImageData("gpu", ("a", "b", "c"), images(96, 0), images(48, 1))


def network(shape: tuple[int, int, int] = (3, 8, 8), classes: int = 3) -> nn.Module:
    """Two convolutions with batch norm, and no pooling, whose gradient has no fixed order on a GPU."""
    first = (nn.Conv2d(shape[0], 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    second = (nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(144, classes))


def seeded_network() -> nn.Module:
    torch.manual_seed(0)
    return network()


def recipe(device: str, **compute: object) -> Recipe:
    short = Training(epochs=2, batch_size=24, attack_steps=2, lr=0.05)
    task = Task(data="gpu_parts:data", model="gpu_parts:network", eps=EPS)
    pruning = Pruning(epochs=2, batch_size=24, attack_steps=2, lr=0.05, keep=0.2, gmp_every=2)
    made = Recipe(task, short, pruning, replace(short, lr=0.01))
    return replace(made, compute=replace(Compute(device=device), **compute))  # type: ignore[arg-type]


THREAT = Threat("linf", EPS)


def accuracies(run: Path) -> tuple[float, float, float]:
    """Loss, clean and robust accuracy of the last epoch of a run."""
    import json

    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return last["loss"], last["clean_accuracy"], last["robust_accuracy"]
