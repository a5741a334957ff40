"""What Carlini's list calls failures, planted one by one: each is named. Sound networks and labels are not suspected."""

import pytest
import torch
from torch import Tensor, nn

from harp.attacks import PGD, AutoAttack, Settled, Threat, bounded
from harp.data import InMemory
from harp.evaluation import evaluate

THREAT = Threat("linf", 0.02)
SHORT = AutoAttack(THREAT, attacks=("apgd-ce",), iterations=2)
ATTACKS = {"pgd": PGD(THREAT, steps=2), "autoattack": SHORT, "settled": Settled(SHORT)}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.05 * torch.randn_like(x)


class AlwaysTraining(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> "AlwaysTraining":
        return super().train(True)


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 3).round() / 3


class Scaled(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return 1e4 * logits


class Cheating(PGD):
    """Says that it stays inside its threat."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (super().__call__(model, x, y) + 0.3).clamp(0, 1)


def network(first: nn.Module | None = None, last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))
    return nn.Sequential(first or nn.Identity(), net, last or nn.Identity()).eval()


def images(n: int = 40) -> InMemory:
    x = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return InMemory(x, network()(x).argmax(1))


PLANTED = {
    "logits times ten thousand": (network(last=Scaled()), "so far apart that it vanishes in rounding"),
    "a quantised first layer": (network(first=Rounded()), "no gradient passes the network: a rounding step"),
    "a random layer at test time": (network(first=Noisy()), "logits change from call to call"),
    "a batch norm that trains": (network(first=AlwaysTraining(3)), "logits for an image change with the other images"),
    "a softmax at the end": (network(last=nn.Softmax(1)), "probabilit"),
}


@every_attack
@pytest.mark.parametrize(("model", "named"), PLANTED.values(), ids=PLANTED)
def test_a_planted_failure_is_named(model, named, attack):
    notes = evaluate(model, images(), attack).notes
    assert any(named in note for note in notes), notes


def test_rounding_is_seen_through_once_it_is_settled():
    attack = AutoAttack(Threat("linf", 0.2), attacks=("apgd-ce", "apgd-t"), iterations=8)
    model = network(first=Rounded())
    alone, both = evaluate(model, images(), attack), evaluate(model, images(), Settled(attack))
    assert alone.correct > both.correct


def test_logits_times_ten_thousand_are_settled_as_those_of_the_plain_network():
    attack = AutoAttack(Threat("linf", 0.03), attacks=("apgd-ce", "square"), iterations=20, queries=100)
    scaled, plain = network(last=Scaled()), network()
    fooled, real = evaluate(scaled, images(), attack), evaluate(plain, images(), attack)
    assert fooled.correct > real.correct
    assert evaluate(scaled, images(), Settled(attack)).correct <= real.correct + 1


def beyond(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (x + 0.3).clamp(0, 1)


@pytest.mark.parametrize("attack", [Cheating(THREAT, steps=2), bounded(beyond, THREAT)], ids=["pgd", "of one's own"])
def test_an_attack_that_leaves_the_ball_is_named_and_brought_back(attack):
    found = evaluate(network(), images(), attack)
    assert (found.norm, found.eps) == ("linf", 0.02)
    assert any("returned images outside linf 5.1/255 or [0, 1]; they were brought back" in note for note in found.notes)
    if isinstance(attack, Cheating):
        assert found.correct > evaluate(network(), images(), beyond).correct


def test_an_attack_of_ones_own_that_keeps_its_ball_is_not_suspected():
    def own(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (x + 0.02).clamp(0, 1)

    found = evaluate(network(), images(), bounded(own, THREAT))
    assert (found.attack, found.norm, found.eps, found.notes) == ("own", "linf", 0.02, ())


class Memory(nn.Module):
    """Sure of the class that is written in the first pixel, and in some images of another."""

    def forward(self, x: Tensor) -> Tensor:
        written = (x[:, 0, 0, :1] * 10).long()
        sure = 1 + 5 * x[:, 0, 0, 1:2]
        return sure * torch.nn.functional.one_hot(written[:, 0], 10)


def written(wrong: float = 0.0, seed: int = 0) -> InMemory:
    """A thousand images; the network is unsure of a share of them, and wrong about these in any way."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(1000) % 10
    x = torch.rand(1000, 1, 4, 4, generator=random)
    seen, unsure = labels.clone(), torch.rand(1000, generator=random) < wrong
    seen[unsure] = torch.randint(10, (int(unsure.sum()),), generator=random)
    x[:, 0, 0, 0] = (seen + 0.5) / 10
    x[:, 0, 0, 1] = torch.where(unsure, 0.3 * x[:, 0, 0, 1], 0.5 + 0.5 * x[:, 0, 0, 1])
    return InMemory(x, labels)


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_labels_that_are_off_by_one_are_named(by, wrong):
    data = written(wrong)
    shifted = torch.rand(1000, generator=torch.Generator().manual_seed(9)) < 0.03
    labels = torch.where(shifted, (data.labels + by) % 10, data.labels)
    notes = evaluate(Memory(), InMemory(data.images, labels)).notes
    assert any(note.startswith("labels seem to be off by one: at ") for note in notes), notes


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_mistakes_of_a_network_are_not_taken_for_those_of_labels(wrong, seed):
    assert not any("labels" in note for note in evaluate(Memory(), written(wrong, seed)).notes)


def test_accuracy_that_rises_with_eps_is_named():
    class Healed(nn.Module):
        """Answers as on the clean image once it was moved far enough."""

        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.register_buffer("clean", images().images)

        def forward(self, x: Tensor) -> Tensor:
            distance = (x[:, None] - self.clean[None]).abs().flatten(2).amax(2)
            near = self.clean[distance.argmin(1)]
            far = distance.amin(1) > 0.1
            return torch.where(far[:, None], self.net(near) + 0 * self.net(x), self.net(x))

    notes = evaluate(Healed(), images(), PGD(Threat("linf", 0.09), steps=2)).notes
    assert any(note.startswith("accuracy rises with eps: ") for note in notes), notes
