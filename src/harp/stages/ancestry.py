"""The dense network that a run was pruned from, where it is still in its place."""

from pathlib import Path

from torch import nn

from harp.data import ImageData
from harp.files import read_json
from harp.runs.directory import RunDirectory
from harp.runs.opening import load_network


def dense_parent(path: Path) -> Path | None:
    """The nearest ancestor of a pruned run that is dense and finished; None for a dense run, and where one is gone."""
    seen: set[Path] = set()
    here = path
    while here.resolve() not in seen and (run := RunDirectory(here)).recipe.is_file():
        seen.add(here.resolve())
        if here != path and run.finished and not (run.masks.exists() or run.widths.exists()):
            return here
        parent = read_json(run.recipe).get("parent")
        if not isinstance(parent, str):
            return None
        here = here / parent
    return None


def load_dense_parent(path: Path, data: ImageData) -> nn.Module | None:
    """Its network, if it answers such images with as many classes."""
    parent = dense_parent(path)
    return None if parent is None else load_network(parent, data)
