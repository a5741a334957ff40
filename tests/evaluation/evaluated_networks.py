"""Small networks, images labelled by them, and quick attacks: for the tests of evaluation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harp.attacks import PGD, Threat
from harp.attacks.autoattack import AutoAttack
from harp.cards import Evaluation
from harp.data import InMemory

THREAT = Threat("linf", 0.01)
QUICK = AutoAttack(THREAT, iterations=4, queries=20)
PLAIN = PGD(THREAT, steps=3)


def linear(classes: int = 4) -> nn.Module:
    """All classes meet at the grey image, so each wins its share of `images`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, classes))
    model[1].bias.data = -0.5 * model[1].weight.detach().sum(1)
    return model


def convolutional() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4, bias=False)
    )


def images(model: nn.Module, n: int = 40, wrong: int = 6) -> InMemory:
    """Random interior images, labelled by the model itself but for the last few, which are labelled wrong."""
    x = 0.3 + 0.4 * torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    mode = model.training
    with torch.no_grad():
        logits = model.eval()(x)
    model.train(mode)
    y = logits.argmax(1)
    y[n - wrong :] = (y[n - wrong :] + 1) % logits.shape[1]
    return InMemory(x, y)


def comparable(result: Evaluation) -> Evaluation:
    return replace(result, elapsed_s=0.0)


class Stop(Exception):
    """Raised by a test in the middle of an evaluation."""


def check_resuming(run: Callable[..., Evaluation], folder: Path) -> None:
    """Stop ``run(state=…, on_progress=…)`` at each of its steps: resumed it ends the same, and does nothing twice."""
    steps: list[int] = []
    expected = comparable(run(on_progress=lambda done, total: steps.append(done)))
    assert len(steps) > 3
    for stop in range(1, len(steps)):
        state, calls = folder / f"{stop}.json", list[int]()

        def interrupt(done: int, total: int, calls: list[int] = calls, stop: int = stop) -> None:
            calls.append(done)
            if len(calls) == stop:
                raise Stop

        with pytest.raises(Stop):
            run(state=state, on_progress=interrupt)
        resumed = run(state=state, on_progress=lambda done, total, calls=calls: calls.append(done))
        assert comparable(resumed) == expected
        assert len(calls) == len(steps), "nothing is done twice"
