"""Label smoothing, distillation, CutMix and random erasing: by hand, and where their answers go."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from harp.attacks import PGD, Threat, as_targets
from harp.checkpoint import load_tensors
from harp.objectives import on_batch, pgd_at
from harp.recipes import Pruning, Recipe, Task, Training
from harp.stages.train import finetune, pretrain, prune
from harp.training.build import mixing_of
from harp.training.mixing import Mixing, box, cutmix, erase, paste, rand_augment
from harp.training.targets import Targets


class Teacher(nn.Module):
    """Answers log 3 for the first of two classes and log 1 for the other: ¾ and ¼."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[math.log(3.0), 0.0]]).expand(len(x), 2)


X, Y = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])


# Targets


def test_targets_by_hand():
    """Half the label and half ¾, ¼; then nine tenths of that and a twentieth for each class."""
    targets = Targets(2, label_smoothing=0.1, distill=0.5, teacher=Teacher())
    attacked = targets.for_attack(X, Y)
    torch.testing.assert_close(attacked, torch.tensor([[0.875, 0.125], [0.375, 0.625]]))
    expected = torch.tensor([[0.8375, 0.1625], [0.3875, 0.6125]])
    torch.testing.assert_close(targets.for_loss(attacked), expected)


def test_nothing_asked_for_leaves_labels_as_they_are():
    assert Targets(2).for_loss(Targets(2).for_attack(X, Y)) is Y


def test_smoothing_is_torchs_own():
    logits = torch.randn(2, 2)
    ours = F.cross_entropy(logits, Targets(2, label_smoothing=0.2).for_loss(Y))
    torch.testing.assert_close(ours, F.cross_entropy(logits, Y, label_smoothing=0.2))


def test_the_loss_is_the_mixture_of_the_losses_and_of_the_divergence_from_the_parent():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    target = Targets(2, distill=0.3, teacher=Teacher()).for_attack(X, Y)
    loss = F.cross_entropy(model(X), target)
    soft = Teacher()(X).softmax(1)
    divergence = F.kl_div(model(X).log_softmax(1), soft, reduction="batchmean")
    entropy = -(soft * soft.log()).sum(1).mean()
    torch.testing.assert_close(loss, 0.7 * F.cross_entropy(model(X), Y) + 0.3 * (divergence + entropy))


def test_the_attack_climbs_the_mixture_and_not_the_smoothed_label():
    """At distill = 1 both images have the same target, so the attack does not see the labels at all."""
    torch.manual_seed(0)
    model, attack = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), PGD(Threat("linf", 0.1), steps=1, random_start=False)
    targets = Targets(2, label_smoothing=0.5, distill=1.0, teacher=Teacher())
    first, second = (targets.for_attack(X, y) for y in (Y, 1 - Y))
    assert torch.equal(attack(model, X, first), attack(model, X, second))
    seen: list[Tensor] = []

    def watched(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(y)
        return x

    loss = on_batch(pgd_at(watched), model, X, first, target=targets.for_loss(first))
    torch.testing.assert_close(loss(), F.cross_entropy(model(X), targets.for_loss(first)))
    assert torch.equal(seen[0], first)


def test_the_margin_attack_takes_the_likelier_class():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    attack = PGD(Threat("linf", 0.1), steps=2, random_start=False, loss="cw")
    soft = torch.tensor([[0.6, 0.4], [0.2, 0.8]])
    assert torch.equal(attack(model, X, soft), attack(model, X, Y))


@pytest.mark.parametrize(
    "wrong", [torch.tensor([[0.5, 0.6], [0.5, 0.5]]), torch.tensor([[-0.5, 1.5], [1.0, 0.0]]), torch.rand(3, 2)]
)
def test_what_is_no_probability_is_refused(wrong: Tensor):
    with pytest.raises(ValueError, match="targets y"):
        as_targets(wrong, 2, 2)


def test_a_teacher_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"distill=0\.5 needs a teacher"):
        Targets(2, distill=0.5)


# Mixing


def test_a_box_by_hand():
    """λ = ¾ leaves a quarter to the box: half of 8 each way, around (4, 4); at a corner it is clipped."""
    assert box(0.75, 0.5, 0.5, 8, 8) == (2, 6, 2, 6)
    assert box(0.75, 0.0, 0.0, 8, 8) == (0, 2, 0, 2)


def test_a_box_is_pasted_and_labels_mix_by_pixels_by_hand():
    x = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    mixed, y = paste(x, torch.eye(2), torch.tensor([1, 0]), (0, 2, 1, 3))
    assert mixed[0, 0].tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(y, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert (x[0] == 0).all()


def test_labels_are_the_share_of_pixels_whatever_is_drawn():
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8) / 4
        mixed, y = cutmix(x, torch.eye(4))
        shares = torch.stack([(mixed == number / 4).float().mean((1, 2, 3)) for number in range(4)], dim=1)
        torch.testing.assert_close(y, shares)


def test_a_rectangle_of_some_images_becomes_noise():
    torch.manual_seed(0)
    x = torch.full((200, 3, 16, 16), 2.0)
    erased = erase(x, 0.5)
    share = (erased != 2.0).float().mean((1, 2, 3))
    hit = share > 0
    assert 70 < int(hit.sum()) < 130
    assert share[hit].min() > 0.01
    assert share[hit].max() < 0.40
    assert (x == 2.0).all()
    for image in erased[hit][:10]:
        rows, columns = (image[0] != 2.0).any(1).nonzero().flatten(), (image[0] != 2.0).any(0).nonzero().flatten()
        inside = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inside != 2.0).all()
    assert torch.equal(erase(x, 0.0), x)


def test_each_image_is_augmented_as_torchvision_does_it_by_the_seed_of_the_step():
    x = torch.rand(6, 3, 8, 8).mul(255).round() / 255
    torch.manual_seed(5)
    found = rand_augment(x, 9)
    torch.manual_seed(5)
    theirs = v2.RandAugment(num_ops=2, magnitude=9)
    expected = torch.stack([theirs((image * 255).round().byte()) for image in x]) / 255
    assert torch.equal(found, expected)
    assert not torch.equal(found, x)
    torch.manual_seed(6)
    assert not torch.equal(rand_augment(x, 9), found)
    assert rand_augment(torch.rand(2, 1, 8, 8), 30).shape == (2, 1, 8, 8)


def test_a_course_mixes_only_what_its_settings_name():
    assert mixing_of(Training()) is None
    assert mixing_of(Training(rand_augment=9, cutmix=0.5)) == Mixing(cutmix=0.5, magnitude=9)
    with pytest.raises(ValueError, match=r"rand_augment=31 must lie in \[0, 30\]"):
        Training(rand_augment=31)


# Stages

FAST = {"epochs": 1, "batch_size": 12, "attack_steps": 1}
RECIPE = Recipe(
    task=Task(data="tiny:data", model="tiny:network", eps=0.1, validation=0.2),
    pretrain=Training(**FAST),
    prune=Pruning(**FAST, keep=0.25, distill=0.5),
    finetune=Training(**FAST, distill=0.5),
)


def test_the_dense_parent_teaches_pruning_and_finetuning(tiny: Path):
    dense = pretrain(RECIPE, tiny / "dense").path
    masked = prune(RECIPE, dense, tiny / "masks").path
    taught = finetune(RECIPE, masked, tiny / "taught")
    plain = finetune(replace(RECIPE, finetune=Training(**FAST)), masked, tiny / "plain")
    one, other = load_tensors(taught.model), load_tensors(plain.model)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_teacher_that_went_or_changed_is_named_before_any_work(tiny: Path):
    dense = pretrain(RECIPE, tiny / "dense").path
    masked = prune(RECIPE, dense, tiny / "masks").path
    shutil.move(dense, tiny / "away")
    with pytest.raises(ValueError, match=r"distill needs the dense network .* is not there"):
        finetune(RECIPE, masked, tiny / "final")
    assert not (tiny / "final").exists()
    pretrain(replace(RECIPE, seed=1), tiny / "dense")
    with pytest.raises(ValueError, match="has changed since"):
        finetune(RECIPE, masked, tiny / "final")


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"distill=0\.5 is for prune and finetune"):
        Recipe(pretrain=Training(distill=0.5))
    for name in ("label_smoothing", "distill", "cutmix"):
        with pytest.raises(ValueError, match=f"{name}=.* which mart has no loss for"):
            Training(objective="mart", **{name: 0.5})
        with pytest.raises(ValueError, match=f"{name}=1.5 must lie in"):
            Training(**{name: 1.5})
