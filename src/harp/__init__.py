"""HARP: holistic adversarially robust pruning (Zhao and Wressnegger, ICLR 2023)."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__version__ = "0.1.0"

# Where each public name is. Nothing is imported before it is used; the stub beside tells type checkers the same.
_PUBLIC = {
    "attacks": "PGD Attack Threat autoattack bounded fgsm settled",
    "cards": "Evaluation",
    "evaluation": "evaluate",
    "exporting": "Exported export",
    "objectives": "Objective free_at mart n_fgsm natural pgd_at trades",
    "pruning": "Budget ChannelBudget Descent Mask Method Penalty Pruner Ramp attach_masks bake_masks channel_budget "
    "freeze_masks hold_masks keep_zeros macs masks methods register_method shrink summary trainable weight_budget",
    "recipes": "Recipe",
    "runs.loading": "load",
    "stages.pipeline": "run",
    "stages.watch": "Watch",
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names.split()}
_MOVED = ("ERK", "GLOBAL", "HARP", "HYDRA", "LAMP", "LWM", "METHODS", "RANDOM", "RATES_ONLY")  # to harp.methods
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        warnings.warn(
            f"harp.{name} is harp.methods.{name} now; the old name ends with the next version", DeprecationWarning, 2
        )
        return getattr(__getattr__("methods"), name)
    if name.startswith("_") or (name not in _MODULES and find_spec(f"{__name__}.{name}") is None):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        if name not in _MODULES:
            return import_module(f".{name}", __name__)
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __name__:
            raise
        message = f"harp.{name} needs {error.name}: pip install '.[train]' in a checkout of harp"
        raise ModuleNotFoundError(message, name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
