"""A network whose answer to an image is not a function of the image alone is judged with a note, under every attack."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.data import InMemory
from harp.evaluation import evaluate

THREAT = Threat("linf", 0.02)


def own(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return x


ATTACKS = {
    "clean": None,
    "own": own,
    "pgd": PGD(THREAT, steps=1),
    "autoattack": AutoAttack(THREAT, attacks=("apgd-ce",), iterations=2),
}


class Changed(nn.Module):
    """A network of which something is done to the answer."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
        self.change, self.calls = change, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.change(self.net(x), x) if self.change is not counting else self.net(x) * self.calls


def counting(logits: Tensor, x: Tensor) -> Tensor:
    raise AssertionError


def images(n: int = 12) -> InMemory:
    x = 0.2 + 0.6 * torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return InMemory(x, torch.arange(n) % 5)


def untracked() -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))


def noted(model: nn.Module, words: str, attack=None, **arguments) -> bool:
    return any(words in note for note in evaluate(model, images(), attack, **arguments).notes)


NEIGHBOURS = {
    "batch norm without statistics": untracked,
    "centred over the batch": lambda: Changed(lambda logits, x: logits - logits.mean(0)),
    "a look at the first image": lambda: Changed(lambda logits, x: logits + 0.02 * logits[:1]),
    "another path for single images": lambda: Changed(lambda logits, x: logits * (1.1 if len(x) == 1 else 1.0)),
}
DRAWS = {
    "noise on the logits": lambda: Changed(lambda logits, x: logits + 0.01 * torch.randn_like(logits)),
    "dropout that never ends": lambda: Changed(lambda logits, x: nn.functional.dropout(logits, 0.3, training=True)),
    "a state from call to call": lambda: Changed(counting),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("make", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_logits_that_change_with_the_other_images_of_a_batch_are_noted(make, attack):
    assert noted(make(), "logits for an image change with the other images of its batch", attack)


@pytest.mark.parametrize("make", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_they_are_noted_when_images_are_judged_one_by_one(make):
    assert noted(make(), "logits for an image change with the other images of its batch", batch_size=1)


def test_a_network_for_single_images_is_judged_one_by_one_with_a_note():
    only_one = Changed(lambda logits, x: logits.reshape(1, 5))
    assert noted(only_one, "depends on the batch: it cannot answer 2 images at once", batch_size=1)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("make", DRAWS.values(), ids=DRAWS)
def test_logits_that_change_from_call_to_call_are_noted(make, attack):
    assert noted(make(), "logits change from call to call", attack)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rounding_and_eval_mode_earn_no_note(dtype, attack, scale):
    model = Changed(lambda logits, x: logits * scale)
    model.net[0].weight.data *= 30
    assert not noted(model.to(dtype), "the model's logits", attack)


def test_a_network_that_needs_company_is_noted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 5), nn.BatchNorm1d(5, track_running_stats=False))
    assert noted(model, "it cannot answer a single image (Expected more than 1 value per channel")


def test_the_look_draws_no_random_number_of_the_callers():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    evaluate(DRAWS["noise on the logits"](), images(), PGD(THREAT, steps=1))
    model = Changed(lambda logits, x: logits)
    torch.manual_seed(3)
    evaluate(model, images(), PGD(THREAT, steps=1))
    assert torch.equal(torch.rand(3), expected)
