"""A budget is a polynomial in the keep fractions of the masks, Σ cost · Π keep[site], and a limit on it."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Real

import torch
from torch import Tensor, nn

from .mask import masks
from .using import patterns, uses

log = logging.getLogger(__name__)

PRUNED_TYPES = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
"""Modules whose weights are counted and pruned. Biases and normalisation never are."""
PRUNED_TENSORS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Term:
    """cost · Π keep[site]; cost in weights or MACs of the dense network."""

    cost: float
    sites: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Budget:
    """At most ``keep`` of the cost of the dense network may stay. ``table()`` lists what takes part."""

    keep: float
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, Real) or not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep!r} must lie in (0, 1]: the fraction that stays, e.g. 0.01 for 1 %")

    def __repr__(self) -> str:
        weights = f"{self.limit:,} of {self.total:,.0f} weights may stay"
        return f"{type(self).__name__}(keep={self.keep:g}: {weights}, in {len(self.sites)} layers)"

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

    def excess(self, model: nn.Module) -> Tensor:
        """max(used / keep − 1, 0), the paper's only extra loss term (eq. 4)."""
        return torch.clamp(self.used(model) / self.keep - 1, min=0)


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


class Ramp:
    """The weight γ of the excess in the paper's three phases, called once an epoch with the excess at its start.

    γ = step · (e + 1) while the budget is exceeded, frozen at the first call that finds it met.
    """

    def __init__(self, step: float = 0.01):
        if not step > 0:
            raise ValueError(f"step={step} must be positive; the paper uses 0.01 (CIFAR-10, SVHN) and 0.1 (ImageNet)")
        self.step = step
        self.calls = 0
        self.met = False

    def __call__(self, excess: Tensor | float) -> float:
        excess = excess.detach().item() if isinstance(excess, Tensor) else excess
        self.met = self.met or (self.calls > 0 and excess <= 0)
        if not self.met:
            self.calls += 1
        return self.step * self.calls


def weight_budget(
    model: nn.Module, keep: float, *, exclude: Sequence[str] = (), example: Tensor | None = None
) -> Budget:
    """At most ``round(keep · N)`` of the N convolution, linear and attention-projection weights may stay.

    ``exclude`` are name patterns (``"classifier.*"``) of weights that are neither pruned nor counted in N.
    Raises ValueError for a pattern that matches nothing, a weight that two modules share or that is computed (by weight
    norm, say), or a budget smaller than the number of layers (each keeps at least one weight).

    With an ``example``, a batch of images, one forward pass is watched: a weight that is remade before it is used
    (standardised, say) is a ValueError, since its zeros would not stay; weights that inference never uses are a warning.
    """
    if isinstance(exclude, str):
        raise TypeError(f"exclude={exclude!r} must be a sequence of patterns; write [{exclude!r}]")
    if masks(model):
        raise ValueError("the model already has masks; make the budget before attach_masks, or bake_masks(model) first")
    weights, computed = prunable_weights(model), computed_weights(model)
    unmatched = [p for p in exclude if not any(fnmatchcase(name, p) for name in [*weights, *computed])]
    if unmatched:
        raise ValueError(f"exclude patterns {unmatched} match no weight; the prunable weights are {list(weights)}")

    def stays_out(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in exclude)

    _refuse_computed([name for name in computed if not stays_out(name)])
    _refuse_shared(model, [name for name in weights if not stays_out(name)])
    terms = tuple(Term(float(w.numel()), (name,)) for name, w in weights.items() if not stays_out(name))
    if not terms:
        raise ValueError("nothing is left to prune: the model has no convolution or linear weight outside `exclude`")
    budget = Budget(keep, terms)
    if budget.limit < len(terms):
        raise ValueError(
            f"keep={keep:g} leaves {budget.limit} of {budget.total:.0f} weights for {len(terms)} layers, and every layer "
            f"keeps at least one; choose keep >= {len(terms) / budget.total:.3g} or leave layers out with `exclude`"
        )
    if example is not None:
        _look_at_a_pass(model, example, {name: weights[name] for name in budget.sites}, list(weights))
    return budget


def _look_at_a_pass(model: nn.Module, example: Tensor, weights: Mapping[str, nn.Parameter], every: list[str]) -> None:
    found = uses(model, example, weights)
    if found.remade:
        names, shown = sorted(found.remade), ", ".join(sorted(found.remade)[:3])
        more = f" and {len(names) - 3} others" if len(names) > 3 else ""
        raise ValueError(
            f"{shown}{more} are remade in the forward pass (standardised, for instance): the network computes with other "
            f"weights than those that a mask would be on, and its zeros would not stay. Use plain layers, or leave these "
            f"out: exclude={patterns(names, every)}"
        )
    idle = [name for name in weights if name not in found.used]
    if idle and not found.branches:  # another image may go another way
        count = sum(weights[name].numel() for name in idle)
        log.warning(
            "%s of the %s weights that the budget counts are never used in eval mode, and would hold their part of what "
            "stays; leave them out: exclude=%s",
            f"{count:,}",
            f"{sum(weight.numel() for weight in weights.values()):,}",
            patterns(idle, every),
        )


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that can be pruned, by name, each module once however often it is called."""
    found = {}
    for name, module, tensor_name in _places(model):
        weight = module._parameters.get(tensor_name)
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet; run one batch through the model first")
        if weight is not None and weight.numel() > 0:
            found[name] = weight
    return found


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for prefix, module in model.named_modules():
        if isinstance(module, PRUNED_TYPES):
            for tensor_name in PRUNED_TENSORS:
                yield f"{prefix}.{tensor_name}" if prefix else tensor_name, module, tensor_name


def computed_weights(model: nn.Module) -> list[str]:
    """Names of weights that are not parameters: a parametrization or a hook makes them anew, e.g. weight norm."""
    return [
        name
        for name, module, tensor_name in _places(model)
        if tensor_name not in module._parameters and isinstance(getattr(module, tensor_name, None), Tensor)
    ]


def _refuse_computed(names: list[str]) -> None:
    if names:
        raise ValueError(
            f"{names} are computed by a parametrization or a hook (weight norm, for instance), and a mask needs the "
            f"weight itself; remove it first, or leave them out: exclude={names}"
        )


def _refuse_shared(model: nn.Module, names: list[str]) -> None:
    owners: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():
        for tensor_name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(f"{prefix}.{tensor_name}" if prefix else tensor_name)
    weights = prunable_weights(model)
    for name in names:
        sharing = owners[id(weights[name])]
        if len(sharing) > 1:
            raise ValueError(
                f"{' and '.join(sharing)} share one weight, which can have only one mask; leave it out: "
                f"exclude={[n for n in sharing if n in weights]}"
            )


def exact_counts(keeps: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Integer quotas of exactly ``total`` entries, at least one a layer, as near as possible to the fractions ``keeps``.

    Rounded fractions that spend ``total`` stay as they are. Otherwise all logits are shifted by one common offset, found
    by bisection, until they do; what rounding down leaves over is handed out by largest remainder, ties by order.
    """
    if not len(sizes) <= total <= sum(sizes.values()):
        raise ValueError(
            f"total={total} must lie between the {len(sizes)} layers and their {sum(sizes.values())} entries"
        )
    strange = {name: keep for name, keep in keeps.items() if not 0 <= keep <= 1}
    if strange:
        raise ValueError(f"keep fractions {strange} must lie in [0, 1]; if learning diverged, go back to a good state")
    rounded = {name: min(max(round(keeps[name] * size), 1), size) for name, size in sizes.items()}
    if sum(rounded.values()) == total:
        return rounded

    # 0 and 1 have no logit, so they count as a hair away.
    odds = {name: (keep := min(max(keeps[name], 1e-12), 1 - 1e-12)) / (1 - keep) for name in sizes}

    def spread(offset: float) -> dict[str, float]:
        by = math.exp(offset)
        return {n: min(max(size * odds[n] * by / (1 + odds[n] * by), 1.0), float(size)) for n, size in sizes.items()}

    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(spread(middle).values()) < total else (low, middle)
    # `low` spends less than `total`, so rounding down from there never overshoots.
    wanted = spread(low)
    counts = {name: math.floor(value + 1e-9) for name, value in wanted.items()}
    by_remainder = sorted(counts, key=lambda name: counts[name] - wanted[name])
    while sum(counts.values()) < total:
        for name in by_remainder:
            if counts[name] < sizes[name] and sum(counts.values()) < total:
                counts[name] += 1
    assert sum(counts.values()) == total
    return counts
