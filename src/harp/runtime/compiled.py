"""The compiled engine, which reads files, too; or why there is none."""

import importlib
from types import ModuleType

ENGINE: ModuleType | None
try:
    ENGINE, MISSING = importlib.import_module("harp.runtime._engine"), ""
except ImportError as error:  # a wheel without it, or of another platform
    ENGINE, MISSING = None, str(error)
