"""Every setting of a run as a frozen value, and the presets. Plain data: nothing here imports torch."""

from .flags import changes, flags, flat
from .how import chance_words, how_words, with_fields
from .plain import from_json, recipe_in, to_json
from .presets import PRESETS
from .settings import (
    ADMM,
    S2AP_HOSTS,
    Compute,
    MethodName,
    Objective,
    Pruning,
    Recipe,
    Task,
    Testing,
    Training,
    data_title,
)
from .spelling import PLUG_INS, normal_spelling, respelled

__all__ = [
    "ADMM",
    "PLUG_INS",
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
    "chance_words",
    "changes",
    "data_title",
    "flags",
    "flat",
    "from_json",
    "how_words",
    "normal_spelling",
    "recipe_in",
    "respelled",
    "to_json",
    "with_fields",
]
