"""The dense network that a run was pruned from, where it is still in its place."""

import os
from pathlib import Path

from torch import nn

from harp.data import ImageData
from harp.files import read_json, sha256_of
from harp.runs.directory import RunDirectory
from harp.runs.network import load_network
from harp.runs.opening import open_run


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
    return None if parent is None else load_network(open_run(parent), data)


def open_teacher(path: Path, data: ImageData) -> nn.Module:
    """The dense network that a run came from, itself if it is dense: what distillation asks.

    Raises ValueError where it is not there any more, or is not what it was.
    """
    run = open_run(path).directory
    card = read_json(run.card)
    while card.get("method") is not None:
        parent = RunDirectory(Path(os.path.normpath(run.path / card["parent"])))
        if not parent.finished:
            raise ValueError(
                f"distill needs the dense network that {run.path} came from, and {parent.path} is not there; put it back, "
                "or set distill to 0"
            )
        if read_json(run.recipe)["source_sha256"] != sha256_of(parent.model):
            raise ValueError(
                f"distill needs the network that {run.path} came from, and {parent.path} has changed since"
            )
        run, card = parent, read_json(parent.card)
    return load_network(open_run(run.path), data).requires_grad_(False).eval()
