"""A budget is a polynomial in the keep fractions of the masks, Σ cost · Π keep[site], and a limit on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harp.pruning.counts import exact_counts
from harp.pruning.mask import Mask, masks
from harp.pruning.methods import Method
from harp.pruning.prunable import prunable_shapes
from harp.pruning.weights import (
    WeightProjection,
    attach_frozen_weight_masks,
    attach_open_weight_masks,
    attach_weight_masks,
)

Layers = dict[str, dict[str, int]]
"""``{"kept": …, "total": …}`` by the name of a weight."""


@dataclass(frozen=True)
class Term:
    """cost · Π keep[site]; cost in weights or MACs of the dense network."""

    cost: float
    sites: tuple[str, ...]


@runtime_checkable
class Projection(Protocol):
    """The nearest point of the sparse set: the same weights, zero where masks would be."""

    weights: dict[str, nn.Parameter]

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]: ...


@dataclass(frozen=True, repr=False)
class Budget:
    """At most ``keep`` of the weights of the dense network may stay. ``table()`` lists what takes part.

    What another kind of budget does in another way is all in its methods: nobody else asks which kind it is.
    """

    keep: float
    terms: tuple[Term, ...]
    uncounted: tuple[tuple[str, int], ...] = field(default=(), kw_only=True)
    """Further parameters of two dimensions or more, which are neither pruned nor counted, and how large they are."""
    parameters: int = field(default=0, kw_only=True)
    """All that the network learns."""

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, Real) or not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep!r} must lie in (0, 1]: the fraction that stays, e.g. 0.01 for 1 %")

    def __repr__(self) -> str:
        weights = f"{self.limit:,} of {self.total:,.0f} weights may stay"
        return f"{type(self).__name__}(keep={self.keep:g}: {weights}, in {len(self.sites)} layers{self.left_out})"

    @property
    def left_out(self) -> str:
        """What the budget does not count, in words; empty where it counts every matrix."""
        if not self.uncounted:
            return ""
        shown = ", ".join(f"{name} ({size / max(1, self.parameters):.1%})" for name, size in self.uncounted[:3])
        more = f" and {len(self.uncounted) - 3} others" if len(self.uncounted) > 3 else ""
        size = sum(size for _, size in self.uncounted)
        return f"; not counted: {shown}{more}, {size:,} of {self.parameters:,} parameters"

    def table(self) -> str:
        """One line per layer: its name and how many weights it has."""
        return aligned([(name, f"{cost:,.0f}") for name, cost in self._costs().items()])

    def _costs(self) -> dict[str, float]:
        costs = dict.fromkeys(self.sites, 0.0)
        for term in self.terms:
            for site in term.sites:
                costs[site] += term.cost
        return costs

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the weights that take part, in network order."""
        return tuple(dict.fromkeys(site for term in self.terms for site in term.sites))

    @property
    def unit(self) -> str:
        """What is counted."""
        return "weights"

    @property
    def parts(self) -> str:
        """What masks keep or remove."""
        return "weights"

    @property
    def total(self) -> float:
        """Cost of the dense network."""
        return sum(term.cost for term in self.terms)

    @property
    def limit(self) -> int:
        """The cost that may stay, a whole number: round(keep · total)."""
        return round(self.keep * self.total)

    def allows(self, counts: Mapping[str, int]) -> bool:
        """Whether so many entries at each site are within the limit."""
        return sum(counts.values()) <= self.limit

    def share(self, keeps: Mapping[str, Tensor | float]) -> Tensor:
        """The fraction of the dense cost that these keep fractions use."""
        total, used = self.total, torch.zeros(())
        for term in self.terms:
            used = used + term.cost / total * math.prod(keeps[site] for site in term.sites)
        return used

    def used(self, model: nn.Module) -> Tensor:
        """The fraction of the dense cost that the model uses now, a differentiable scalar on the scale of ``keep``."""
        found = masks(model)
        missing = [site for site in self.sites if site not in found]
        if missing:
            raise ValueError(
                f"the model has no mask at {missing}; call attach_masks(model, budget) with this budget first"
            )
        return self.share({site: found[site].keep for site in self.sites})

    def density(self, model: nn.Module) -> float:
        """:meth:`used`, as a plain number and with one transfer for all layers: it is asked for at every step."""
        return _weight_density(masks(model))

    def attach(self, model: nn.Module, method: Method) -> None:
        """Give the model the masks with which a method starts."""
        attach_weight_masks(model, self._sizes(), self.keep, self.limit, method)

    def attach_open(self, model: nn.Module) -> None:
        """Attach masks that keep everything, under which the weights learn."""
        attach_open_weight_masks(model, self._sizes(), self.keep, self.limit)

    def attach_frozen(self, model: nn.Module, chosen: Mapping[str, Tensor]) -> None:
        """Attach masks that were learned before, by the names of this budget's sites."""
        attach_frozen_weight_masks(model, chosen)

    def final_counts(self, found: Mapping[str, Mask]) -> dict[str, int]:
        """How many entries each mask keeps in the end: fixed quotas stand, learned fractions share the rest."""
        fixed = {name: mask.count for name, mask in found.items() if mask.logit is None}
        keeps = {name: float(mask.keep.detach()) for name, mask in found.items() if name not in fixed}
        sizes = {name: found[name].size for name in keeps}
        most = {name: found[name].most for name in keeps}
        spent = sum(fixed.values())
        if not len(sizes) <= self.limit - spent <= sum(most.values()):
            raise ValueError(
                f"the fixed quotas keep {spent} weights and the budget {self.limit}: the state is of another"
            )
        return fixed | exact_counts(keeps, sizes, self.limit - spent, most=most)

    def projection(self, model: nn.Module, method: Method) -> Projection:
        """The sparse set of this budget, for Robust-ADMM to pull the weights to."""
        return WeightProjection(model, self.sites, self.keep, self.limit, method)

    def layers(self, model: nn.Module, counts: Mapping[str, int]) -> Layers:
        """What stays of every prunable weight when each mask keeps so many entries; left out, all of it."""
        return weight_layers(model, counts)

    def counted(self, layers: Layers) -> Layers:
        """Those of all layers that the budget is about."""
        return {name: layer for name, layer in layers.items() if name in self.sites}

    def met_by(self, counts: Mapping[str, int]) -> bool:
        """Whether so many entries at each site are what a finished network has: all that may stay."""
        return sum(counts.values()) == self.limit

    def channels(self, counts: Mapping[str, int]) -> dict[str, Any] | None:
        """What a budget on channels has to add to a card."""
        return None

    def _sizes(self) -> dict[str, int]:
        return {term.sites[0]: int(term.cost) for term in self.terms}

    def excess(self, model: nn.Module) -> Tensor:
        """max(used / keep − 1, 0), the paper's only extra loss term (eq. 4)."""
        return torch.clamp(self.used(model) / self.keep - 1, min=0)


def weight_layers(model: nn.Module, counts: Mapping[str, int]) -> Layers:
    """What stays of every prunable weight when the masks on weights keep so many entries each."""
    sizes = {name: shape.numel() for name, shape in prunable_shapes(model, counts).items()}
    return {name: {"kept": counts.get(name, total), "total": total} for name, total in sizes.items()}


def budget_of(model: nn.Module) -> Budget | None:
    """The budget of the model's masks. None when it has none, or such as were attached frozen without a budget."""
    return next((mask.budget for mask in masks(model).values()), None)


def density_of(model: nn.Module) -> float:
    """The share of the dense cost that is kept now; 1 for a network without masks."""
    found, budget = masks(model), budget_of(model)
    if not found:
        return 1.0
    return _weight_density(found) if budget is None else budget.density(model)


def _weight_density(found: Mapping[str, Mask]) -> float:
    with torch.no_grad():
        keeps = torch.stack([mask.keep for mask in found.values()]).tolist()
    sizes = [mask.size for mask in found.values()]
    return sum(keep * size for keep, size in zip(keeps, sizes, strict=True)) / sum(sizes)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, all others to the right."""
    lengths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(n) if place else cell.ljust(n) for place, (cell, n) in enumerate(zip(row, lengths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
