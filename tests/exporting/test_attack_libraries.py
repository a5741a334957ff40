"""Other people's attacks on a module of the engine: they find about what they find on the model in torch.

They are no dependencies of the tests, since torchattacks pins an old requests and foolbox needs GitPython.
"""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harp.exporting import sparse_module
from harp.pruning import attach_masks, bake_masks, freeze_masks, weight_budget
from harp.pruning.methods import ERK

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

EPS, STEP, STEPS = 0.1, 0.02, 10


@pytest.fixture(scope="module")
def learned() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A pruned network that tells noisy patterns apart, with images of them."""
    torch.manual_seed(0)
    patterns, y = torch.rand(4, 1, 8, 8), torch.arange(64) % 4
    x = (0.5 * patterns[y] + 0.5 * torch.rand(64, 1, 8, 8)).clamp(0, 1)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4))
    attach_masks(model, weight_budget(model, keep=0.3), ERK)
    freeze_masks(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return bake_masks(model).eval().requires_grad_(False), x, y


def agree(model: nn.Module, found: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
    """On both the attack fools some, and at most two images differ; all stay in the ball."""
    fooled = [model(each).argmax(1) != y for each in found]
    assert int(fooled[0].sum()) > 0
    assert int((fooled[0] != fooled[1]).sum()) <= 2
    assert float((found[1] - x).abs().max()) <= EPS + 1e-5


@pytest.mark.slow
def test_torchattacks_finds_on_the_engine_what_it_finds_in_torch(learned: tuple[nn.Module, torch.Tensor, torch.Tensor]):
    torchattacks = pytest.importorskip("torchattacks")
    model, x, y = learned
    found = []
    for attacked in (copy.deepcopy(model), sparse_module(model, x, threads=1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it finds no parameter, and guesses the CPU
            attack = torchattacks.PGD(attacked, eps=EPS, alpha=STEP, steps=STEPS, random_start=False)
            found.append(attack(x, y))
    agree(model, found, x, y)


@pytest.mark.slow
def test_foolbox_finds_on_the_engine_what_it_finds_in_torch(learned: tuple[nn.Module, torch.Tensor, torch.Tensor]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses names that SciPy and others deprecate
        foolbox = pytest.importorskip("foolbox")
        model, x, y = learned
        found = []
        for attacked in (copy.deepcopy(model), sparse_module(model, x, threads=1)):
            wrapped = foolbox.PyTorchModel(attacked.eval(), bounds=(0, 1), device="cpu")
            attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)
            found.append(attack(wrapped, x, y, epsilons=EPS)[1])
    agree(model, found, x, y)
