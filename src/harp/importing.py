"""The user's own networks and data sets, by import path ``package.module:factory``."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
