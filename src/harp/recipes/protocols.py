"""How two benchmarks of the field evaluate a network, as settings."""

from dataclasses import replace
from typing import Literal

from harp.recipes.settings import Evaluating, Task

Protocol = Literal["robustbench", "adversarial-pruning"]

_ROBUSTBENCH_EPS = {"linf": 8 / 255, "l2": 0.5}
_IMAGENET_EPS = {"linf": 4 / 255, "l2": 3.0}
_ROBUSTBENCH_IMAGES, _IMAGENET_IMAGES = 10_000, 5_000
_PRUNING_EPS = 0.031
PRUNING_KEEPS = {"weight": (0.10, 0.05, 0.01), "channel": (0.5, 0.25, 0.1)}
"""The sparsities that the adversarial pruning benchmark asks for, as fractions kept."""


def evaluations_of(protocol: Protocol, task: Task, settings: Evaluating) -> list[Evaluating]:
    """What the protocol evaluates; ``settings`` give the size of a batch.

    Raises ValueError for a task that the protocol has no threat for.
    """
    if protocol == "robustbench":
        imagenet = task.data == "imagenet"
        eps = (_IMAGENET_EPS if imagenet else _ROBUSTBENCH_EPS)[task.norm]
        images = _IMAGENET_IMAGES if imagenet else _ROBUSTBENCH_IMAGES
        return [replace(settings, attack="autoattack", eps=(eps,), images=images)]
    if task.norm != "linf":
        raise ValueError(
            f"protocol='adversarial-pruning' attacks in linf, and the run was trained for {task.norm}; use 'robustbench'"
        )
    return [replace(settings, attack=attack, eps=(_PRUNING_EPS,), images=None) for attack in ("autoattack", "minimal")]
