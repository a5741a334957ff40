"""How many weights a written network computes with, and that they are no more than its parameters have."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from harp.pruning import prunable_weights
from harp.pruning.using import uses
from harp.runtime.graph import Graph

_FILLED = (
    "{where} computes with {found:,} weights that are not zero, and {stored:,} are stored: they are remade in the forward "
    "pass (standardised, for instance), and the zeros of pruning do not stay. Nothing was written. Use plain layers there; "
    "weight_budget(model, keep, example=images) names such layers before they are pruned"
)


@dataclass(frozen=True)
class Count:
    """Weights that are not zero, of how many."""

    kept: int
    total: int


def count_graph(graph: Graph, model: nn.Module) -> Count:
    """The weights in a graph, those that several modules or calls share once.

    Raises ValueError naming a module whose weight has more entries that are not zero in the graph than in the model.
    """
    weights = prunable_weights(model)
    stored = {id(weight): int(weight.count_nonzero()) for weight in weights.values()}
    named = {name: each for name, each in model.named_parameters(remove_duplicate=False) if id(each) in stored}
    others = _others(model, weights.values())
    found: dict[object, Count] = {}
    for place, node in enumerate(graph.nodes):
        if "weight" not in node.tensors:
            continue
        array = node.tensors["weight"]
        count = Count(int(np.count_nonzero(array)), array.size)
        own = named.get(f"{node.name}.weight" if node.name else "weight")
        if own is None or own.numel() != array.size:  # of a product that the forward pass writes out
            if others.get(array.size, -1) < count.kept:
                found[place] = count
            continue
        if count.kept > stored[id(own)]:
            where = f"{node.name or 'the model itself'} ({node.op})"
            raise ValueError(_FILLED.format(where=where, found=count.kept, stored=stored[id(own)]))
        before = found.get(id(own))
        found[id(own)] = count if before is None or before.kept < count.kept else before
    unnamed = sum(count.kept for key, count in found.items() if key not in stored)
    rest = sum(kept for key, kept in stored.items() if key not in found)
    if unnamed > rest and any(weight.count_nonzero() < weight.numel() for weight in weights.values()):
        raise ValueError(_FILLED.format(where="the model itself", found=unnamed, stored=rest))
    return _sum(found.values())


def _others(model: nn.Module, weights: Iterable[Tensor]) -> dict[int, int]:
    """By size the entries that are not zero of the parameters and buffers that are no weights: a vector to multiply by, say."""
    known, found = {id(weight) for weight in weights}, dict[int, int]()
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in known:
            found[tensor.numel()] = max(found.get(tensor.numel(), 0), int(tensor.count_nonzero()))
    return found


def count_model(model: nn.Module, example: Tensor) -> Count:
    """The weights that the model uses in eval mode, those that several modules share once.

    Raises ValueError naming a pruned weight that the forward pass fills again.
    """
    first = {id(weight): name for name, weight in reversed(prunable_weights(model).items())}
    named = {name: weight for name, weight in prunable_weights(model).items() if first[id(weight)] == name}
    found = uses(model, example, named)
    counts = {name: Count(int(w.count_nonzero()), w.numel()) for name, w in named.items() if name in found.used}
    for name, count in counts.items():
        if name in found.remade and count.kept < count.total:
            raise ValueError(_FILLED.format(where=name.rpartition(".")[0], found=count.total, stored=count.kept))
    return _sum(counts.values())


def _sum(counts: Iterable[Count]) -> Count:
    counts = list(counts)
    return Count(sum(count.kept for count in counts), sum(count.total for count in counts))
