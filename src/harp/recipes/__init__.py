"""Every setting of a run as a frozen value, and the presets. Plain data: nothing here imports torch."""

from .plain import from_json, recipe_in, to_json
from .presets import PRESETS
from .settings import ADMM, S2AP_HOSTS, Compute, MethodName, Objective, Pruning, Recipe, Task, Testing, Training

__all__ = [
    "ADMM",
    "PRESETS",
    "S2AP_HOSTS",
    "Compute",
    "MethodName",
    "Objective",
    "Pruning",
    "Recipe",
    "Task",
    "Testing",
    "Training",
    "from_json",
    "recipe_in",
    "to_json",
]
