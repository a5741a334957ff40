"""The user's own networks and data sets, by import path ``package.module:factory``."""

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

INSTALLED = {"site-packages", "dist-packages"}
"""Directories of what was installed, which may lie inside a project and are none."""
VARIABLE = "HARP_IMPORT"
"""In the environment: modules that a command imports first. So do the processes that it starts, ranks and cells."""


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
    """Module → digest of its source file, for the module that ``path`` names and those of its project that it imports.

    The project is the directory that its package lies in. Imports are read from the source, so that it does not matter
    what is loaded. Ends of lines do not count. Of an installed package, its version stands for what it imports.
    """
    import_factory(path)
    first = path.partition(":")[0]
    found: dict[str, str] = {}
    waiting, seen = [first], {first}
    with _working_directory_on_path():
        project = _project_of(first)
        while waiting and project is not None:
            name = waiting.pop()
            file = _file_of(name)
            if file is None or not _is_part(file, project):
                continue
            source = file.read_bytes().replace(b"\r\n", b"\n")
            found[name] = hashlib.sha256(source).hexdigest()[:32]
            package = name if file.stem == "__init__" else name.rpartition(".")[0]
            new = {n for n in _imports(source, package) if project.name not in INSTALLED and _may_lie_in(project, n)}
            waiting += sorted(new - seen)
            seen |= new
        if project is not None and project.name in INSTALLED:
            with suppress(PackageNotFoundError):
                found[first.partition(".")[0]] = version(first.partition(".")[0])
    return dict(sorted(found.items()))


def _is_part(file: Path, project: Path) -> bool:
    return project in file.parents and not INSTALLED & {*file.relative_to(project).parts}


def _project_of(name: str) -> Path | None:
    """The directory in which the package of a module lies, or the module itself if it is in none."""
    file = _file_of(name)
    return None if file is None else file.parents[name.count(".") + (file.stem == "__init__")]


def _file_of(name: str) -> Path | None:
    """The source file of a module, which is not loaded for it; None where there is none to read."""
    loaded = sys.modules.get(name)
    with suppress(ImportError, ValueError, AttributeError):  # whatever its parents raise
        spec = None if loaded is not None else importlib.util.find_spec(name)
        place = getattr(loaded, "__file__", None) or (spec.origin if spec is not None else None)
        if place is not None and place.endswith(".py") and Path(place).is_file():
            return Path(place).resolve()
    return None


def _imports(source: bytes, package: str) -> set[str]:
    """All modules, and names that may be modules, that a source imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name for name in found if name}


def _may_lie_in(project: Path, name: str) -> bool:
    """A quick look, so that no strangers are searched for."""
    top = name.partition(".")[0]
    return (project / top).is_dir() or (project / f"{top}.py").is_file()


def import_module(path: str) -> None:
    """Import a module for what it does, such as registering a method; those of the working directory included.

    Raises ValueError repeating the path and what went wrong.
    """
    with _working_directory_on_path():
        try:
            importlib.import_module(path)
        except (ImportError, TypeError, ValueError) as error:
            raise ValueError(
                f"import={path!r}: {error}. Expected package.module, importable from here ({os.getcwd()})"
            ) from error


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """As `python -m` has it: an installed command does not see the modules beside which it is called."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
