"""HARP: holistic adversarially robust pruning (Zhao and Wressnegger, ICLR 2023)."""

import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

# The stub lists the public names and where each is, so that editors see them too; nothing is imported before it is used.
_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_MODULES = {name: module for module, name in re.findall(r"^from \.(\w+) import (\w+) as \2$", _STUB, re.MULTILINE)}
_MOVED = ("ERK", "GLOBAL", "HARP", "HYDRA", "LAMP", "LWM", "METHODS", "RANDOM", "RATES_ONLY")  # to harp.methods
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "runtime":
        return import_module(".runtime", __name__)
    if name in _MOVED:
        warnings.warn(
            f"harp.{name} is harp.methods.{name} now; the old name ends with the next version", DeprecationWarning, 2
        )
        return getattr(__getattr__("methods"), name)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == __name__:
            raise
        message = f"harp.{name} needs {error.name}: pip install 'harp-pruning[train]'"
        raise ModuleNotFoundError(message, name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
