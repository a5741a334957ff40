"""The user's own networks and data sets, by import path ``package.module:factory``."""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
"""Directories of what was installed, which may lie inside a project."""


def import_factory(path: str) -> Callable[..., Any]:
    """What ``package.module:factory`` names, modules of the working directory included.

    Raises ValueError repeating the path and what went wrong when there is no such thing, TypeError when it cannot be
    called.
    """
    module, _, attribute = path.partition(":")
    with _working_directory_on_path():
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"name={path!r}: {error}. Expected package.module:factory, importable from here ({os.getcwd()})"
            ) from error
    if not callable(factory):
        raise TypeError(f"name={path!r} is a {type(factory).__name__}: expected a function that can be called")
    return factory


def sources_of(path: str) -> dict[str, str]:
    """Module → digest of its source file, for the module that ``path`` names and those of its project that it uses.

    A module is used when it, or a class or function of it, is a name in one that is used; the project is the package, or
    for a module outside of packages its directory. Ends of lines do not count. A module without a source file has none.
    """
    import_factory(path)
    first = sys.modules[path.partition(":")[0]]
    found: dict[str, str] = {}
    waiting, seen = [first], {first.__name__}
    while waiting:
        module = waiting.pop()
        with suppress(OSError):
            source = Path(module.__file__ or "").read_bytes().replace(b"\r\n", b"\n")
            found[module.__name__] = hashlib.sha256(source).hexdigest()[:32]
        new = [m for m in _used_by(module) if m.__name__ not in seen and _same_project(m, first)]
        seen |= {m.__name__ for m in new}
        waiting += new
    return dict(sorted(found.items()))


def _used_by(module: ModuleType) -> list[ModuleType]:
    named = (v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) for v in vars(module).values())
    modules = (sys.modules.get(name) for name in dict.fromkeys(named) if isinstance(name, str))
    return [module for module in modules if module is not None]


def _same_project(module: ModuleType, first: ModuleType) -> bool:
    if module.__name__.partition(".")[0] == first.__name__.partition(".")[0]:
        return True
    places = [getattr(m, "__file__", None) for m in (module, first)]
    if first.__package__ or None in places:
        return False
    here = Path(places[1]).parent  # type: ignore[arg-type]
    return here in Path(places[0]).parents and not INSTALLED & {*Path(places[0]).relative_to(here).parts, here.name}  # type: ignore[arg-type]


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """As `python -m` has it: an installed command does not see the modules beside which it is called."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
