"""A model on the engine: for attacks and evaluations that cost as much as the weights that are left."""

import copy

from torch import Tensor, nn

from harp.exporting.tracing import trace
from harp.pruning import bake_masks, freeze_masks, masks
from harp.runtime.graph import Graph
from harp.runtime.torch import SparseModule


def sparse_module(model: nn.Module, example: Tensor, *, threads: int | None = None) -> SparseModule:
    """What ``model`` answers in eval mode as a module that the engine computes, masks applied.

    ``example`` is a batch of images as the model takes them, float32 (n, c, h, w), of one image or more. Masks may
    still learn: those of this moment count. The model stays as it is; :func:`refresh` takes over what it has learned.
    Raises ValueError naming an operation that the engine lacks, as ``harp.export`` does, or computes forward only.
    """
    module = SparseModule(_graph(model, example), threads=threads)
    module.session.need_way_back()
    return module


def refresh(module: SparseModule, model: nn.Module, example: Tensor) -> None:
    """Give ``module`` the weights, masks and statistics that ``model``, which it was made of, has now."""
    module.update(_graph(model, example))


def _graph(model: nn.Module, example: Tensor) -> Graph:
    found = masks(model)
    if not found:
        return trace(model, example)
    plain = copy.deepcopy(model)
    if not all(mask.frozen for mask in found.values()):
        freeze_masks(plain)
    bake_masks(plain)
    return trace(plain, example)
