"""Every setting of a run as a frozen value, and the presets. Plain data: nothing here imports torch."""

from harp.recipes.attacks import ATTACK_NAMES, AttackName, attack_label, attack_order
from harp.recipes.differences import changes, flags, flat
from harp.recipes.how import chance_words, how_words, threat_words, with_fields
from harp.recipes.lengths import (
    few_steps,
    from_parent,
    images_used,
    in_epochs,
    steps_of,
    steps_per_epoch,
)
from harp.recipes.methods import ADMM, GMP, LEARN_WEIGHTS, OWN_METHODS, REGROW, brought, method_names, register_name
from harp.recipes.naming import name_of, plug_ins
from harp.recipes.plain import from_json, recipe_in, to_json
from harp.recipes.presets import PRESETS
from harp.recipes.protocols import PRUNING_KEEPS, Protocol, evaluations_of
from harp.recipes.setting import with_setting
from harp.recipes.settings import Compute, Evaluating, Recipe, Task, data_title
from harp.recipes.spelling import PLUG_INS, normal_spelling, respelled
from harp.recipes.training import S2AP_HOSTS, Granularity, ObjectiveName, Pruning, Training

__all__ = [
    "ADMM",
    "ATTACK_NAMES",
    "GMP",
    "LEARN_WEIGHTS",
    "OWN_METHODS",
    "PLUG_INS",
    "PRESETS",
    "PRUNING_KEEPS",
    "REGROW",
    "S2AP_HOSTS",
    "AttackName",
    "Compute",
    "Evaluating",
    "Granularity",
    "ObjectiveName",
    "Protocol",
    "Pruning",
    "Recipe",
    "Task",
    "Training",
    "attack_label",
    "attack_order",
    "brought",
    "chance_words",
    "changes",
    "data_title",
    "evaluations_of",
    "few_steps",
    "flags",
    "flat",
    "from_json",
    "from_parent",
    "how_words",
    "images_used",
    "in_epochs",
    "method_names",
    "name_of",
    "normal_spelling",
    "plug_ins",
    "recipe_in",
    "register_name",
    "respelled",
    "steps_of",
    "steps_per_epoch",
    "threat_words",
    "to_json",
    "with_fields",
    "with_setting",
]
