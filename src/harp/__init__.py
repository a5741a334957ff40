"""HARP: holistic adversarially robust pruning (Zhao and Wressnegger, ICLR 2023)."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

# The stub lists the public names and where each is, so that editors see them too; nothing is imported before it is used.
_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_MODULES = {name: module for module, name in re.findall(r"^from \.(\w+) import (\w+) as \2$", _STUB, re.MULTILINE)}
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "runtime":
        return import_module(".runtime", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
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
