"""A model on the engine: for attacks and evaluations that cost as much as the weights that are left."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harp.exporting.program import program_of
from harp.exporting.tracing import graph_of
from harp.pruning import bake_masks, freeze_masks, masks
from harp.pruning.mask import parametrizations
from harp.runtime.graph import Graph
from harp.runtime.tape import check_way_back
from harp.runtime.torch import SparseModule


def sparse_module(model: nn.Module, example: Tensor, *, threads: int | None = None) -> SparseModule:
    """What ``model`` answers in eval mode as a module that the engine computes, masks applied.

    ``example`` is a batch of images as the model takes them, float32 (n, c, h, w), of one image or more. The model stays
    as it is. Masks may still learn: those of this moment count. A :class:`Mirror` follows a model that learns. Raises
    ValueError naming an operation that the engine lacks, as ``harp.export`` does, or computes forward only.
    """
    return Mirror(model, example, threads=threads).module()


class Mirror:
    """A model that learns, again and again on the engine.

    The network is traced once, which takes seconds. :meth:`module` then only reads weights, masks and statistics. The
    arguments and errors are those of :func:`sparse_module`.
    """

    def __init__(self, model: nn.Module, example: Tensor, *, threads: int | None = None) -> None:
        self._model, self._threads = model, threads
        self._program = program_of(plain_copy(model), example)
        check_way_back(self._graph())

    def module(self) -> SparseModule:
        """The model as it is now. Planned anew each time, so that equal weights give equal bits, whatever came before."""
        return SparseModule(self._graph(), threads=self._threads)

    def _graph(self) -> Graph:
        return graph_of(self._program, tensors_of(self._model))


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy without masks, of which only the names and shapes of weights count."""
    found = masks(model)
    if not found:
        return model
    plain = copy.deepcopy(model)
    if not all(mask.frozen for mask in found.values()):
        freeze_masks(plain)
    for mask in masks(plain).values():
        mask.budget = None  # those of gradual pruning do not meet it yet
    return bake_masks(plain)


def tensors_of(model: nn.Module) -> Mapping[str, Tensor]:
    """Parameters and buffers by the names that they have without masks, weights as their masks leave them."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for path, module in model.named_modules():
            for weight in parametrizations(module):
                tensors[f"{path}.{weight}" if path else weight] = getattr(module, weight)
    return tensors
