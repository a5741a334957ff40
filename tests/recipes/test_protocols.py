"""What two benchmarks ask for, as settings."""

from dataclasses import replace

import pytest

from harp.recipes import PRUNING_KEEPS, Evaluating, Task, evaluations_of

TASK = Task(data="cifar10", model="resnet18", eps=8 / 255)
MINE = Evaluating(attack="pgd", images=7, batch_size=50)


def test_robustbench_is_autoattack_at_its_own_radius_on_ten_thousand_images():
    (linf,) = evaluations_of("robustbench", TASK, MINE)
    assert (linf.attack, linf.eps, linf.images, linf.batch_size) == ("autoattack", (8 / 255,), 10_000, 50)
    (l2,) = evaluations_of("robustbench", replace(TASK, norm="l2", eps=1.0), MINE)
    assert l2.eps == (0.5,)
    (imagenet,) = evaluations_of("robustbench", replace(TASK, data="imagenet"), MINE)
    assert (imagenet.eps, imagenet.images) == ((4 / 255,), 5_000)


def test_the_adversarial_pruning_benchmark_is_autoattack_and_a_curve():
    found = evaluations_of("adversarial-pruning", TASK, MINE)
    assert [(each.attack, each.eps, each.images) for each in found] == [
        ("autoattack", (0.031,), None),
        ("minimal", (0.031,), None),
    ]
    assert PRUNING_KEEPS == {"weight": (0.1, 0.05, 0.01), "channel": (0.5, 0.25, 0.1)}
    with pytest.raises(ValueError, match="attacks in linf, and the run was trained for l2"):
        evaluations_of("adversarial-pruning", replace(TASK, norm="l2"), MINE)
