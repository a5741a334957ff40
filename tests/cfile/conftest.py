"""Random networks, the ones that tests/runtime draws, and the compilers that there are."""

import importlib.util
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harp.runtime.graph import Graph

ROOT = Path(__file__).parents[2]
DRAWN = ROOT / "tests" / "runtime" / "conftest.py"


@pytest.fixture(scope="session")
def draw_graph() -> Callable[[int, float, int], Graph]:
    """(seed, keep, nodes) → a network of maps, whose operations fit each other."""
    spec = importlib.util.spec_from_file_location("random_networks", DRAWN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return partial(module.random_graph, maps=True)


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def cc() -> str:
    """Skips where no C compiler is."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed; any C compiler will do")
    return "cc"
