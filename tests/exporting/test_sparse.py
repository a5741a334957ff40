"""A model on the engine: it answers as the model does, masks and all, and attacks find on it what they find in torch."""

import pytest
import torch
from torch import nn

from harp.attacks import PGD, AutoAttack, Threat
from harp.exporting.sparse import Mirror, sparse_module
from harp.pruning import GMP, HARP, Gradual, attach_masks, freeze_masks, masks, weight_budget

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

THREAT = Threat("linf", eps=0.1)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_masked_network_answers_as_it_does_in_torch_and_keeps_its_masks(images: torch.Tensor, frozen: bool):
    model = network()
    attach_masks(model, weight_budget(model, keep=0.05), HARP)
    assert sum(int(mask.current().sum()) for mask in masks(model).values()) > weight_budget(network(), keep=0.05).limit
    if frozen:
        freeze_masks(model)
    module = sparse_module(model, images, threads=1)
    with torch.no_grad():
        torch.testing.assert_close(module(images), model(images), rtol=1e-4, atol=1e-5)
    assert all(mask.frozen == frozen for mask in masks(model).values())
    assert module.session.macs()[0] < 0.5 * module.session.macs()[1]


def test_a_mirror_follows_masks_that_remove_more_and_more(images: torch.Tensor):
    """Those of gradual pruning keep more than their budget until the end."""
    model = network()
    budget = weight_budget(model, keep=0.1)
    attach_masks(model, budget, GMP)
    mirror, rule = Mirror(model, images, threads=1), Gradual(model, budget, 3, method=GMP, settle=1.0, every=1)
    for _ in range(3):
        rule.step()
        with torch.no_grad():
            torch.testing.assert_close(mirror.module()(images), model(images), rtol=1e-4, atol=1e-5)
    assert sum(mask.count for mask in masks(model).values()) == budget.limit


@pytest.mark.parametrize("masked", [False, True])
def test_a_mirror_follows_weights_statistics_and_masks(images: torch.Tensor, masked: bool):
    model = network()
    if masked:
        attach_masks(model, weight_budget(model, keep=0.3), HARP)
    mirror = Mirror(model, images, threads=1)
    before = mirror.module()(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
        for mask in masks(model).values():
            mask.scores.copy_(mask.scores.flip(0))
        model[1].running_mean.add_(0.1)
        after = mirror.module()(images)
        torch.testing.assert_close(after, model(images), rtol=1e-4, atol=1e-5)
    assert (after - before).abs().max() > 0.01
    assert torch.equal(after, sparse_module(model, images, threads=1)(images))


def test_pgd_finds_the_images_that_it_finds_in_torch(images: torch.Tensor):
    model, found = network(), []
    labels = model(images).argmax(1)
    for attacked in (model, sparse_module(model, images, threads=1)):
        torch.manual_seed(1)
        found.append(PGD(THREAT, steps=5)(attacked, images, labels))
    assert (found[1] - images).abs().max() <= 0.1 + 1e-6
    assert ((found[0] - found[1]).abs() < 1e-4).float().mean() > 0.99


def test_autoattack_of_the_authors_decides_as_in_torch(images: torch.Tensor):
    model, survived = network(), []
    labels = model(images).argmax(1)
    attack = AutoAttack(THREAT, iterations=5, queries=20)
    for attacked in (model, sparse_module(model, images, threads=1)):
        attack.check(attacked, images, labels)
        left = torch.ones(len(images), dtype=torch.bool)
        for name in attack.suite(5):
            x_adv, _ = attack.attack_once(name, attacked, images, labels)
            assert (x_adv - images).abs().max() <= 0.1 + 1e-6
            left &= model(x_adv).argmax(1) == labels
        survived.append(left)
    assert 0 < survived[0].sum() < len(images)
    assert (survived[0] != survived[1]).sum() <= 1
