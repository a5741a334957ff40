"""Shapes in annotations are checked while the tests run; one thread, so that tests in parallel do not compete."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parent.parent / "src" / "harp"
# Not the recipes: they check what users give them with messages of their own, which beartype's would hide. Nor the
# command line, in whose flags a MISSING of tyro stands for what a user has still to say.
UNCHECKED = ("recipes", "cli")
CHECKED = [
    f"harp.{part.stem}" for part in PACKAGE.iterdir() if not part.name.startswith("_") and part.stem not in UNCHECKED
]
install_import_hook(CHECKED, "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

TINY = '''
"""Three classes of 4x4 images and a network of 168 weights: a stage takes a tenth of a second."""

import os
import time

import torch
from torch import nn

from harp.data import ImageData, InMemory


def images(n, seed):
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return InMemory(noise * 0.4 + labels[:, None, None, None] * 0.3, labels)


def data():
    return ImageData("tiny", ("a", "b", "c"), images(60, 0), images(24, 1))


def two_classes():
    return ImageData("tiny", ("a", "b"), InMemory(torch.rand(8, 1, 4, 4), torch.arange(8) % 2), images(24, 1).subset(torch.tensor([0, 1])))


class Sealed(InMemory):
    """A test split that must not be looked at."""

    def batches(self, order, batch_size, *, augment_seed=None):
        raise RuntimeError("the test set was read")


def sealed_data():
    test = images(24, 1)
    return ImageData("tiny", ("a", "b", "c"), images(60, 0), Sealed(test.images, test.labels))


class Slow(nn.Module):
    """Takes as long as the environment says, so that a signal comes in the middle of a run."""

    def forward(self, x):
        time.sleep(float(os.environ.get("TINY_PAUSE_S", "0")))
        return x


def network(shape, classes):
    return nn.Sequential(
        Slow(), nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, classes)
    )


def tied(shape, classes):
    model = network(shape, classes)
    model[3] = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    model[3][0].weight = model[2].weight
    return model
'''


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module `tiny`: a data set and a network by import path, `tiny:data`, `tiny:network`."""
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def harp_process() -> Callable[..., subprocess.Popen[str]]:
    """A command of harp in a process of its own, with variables of the environment; all it says is its stdout."""

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "harp.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return start
