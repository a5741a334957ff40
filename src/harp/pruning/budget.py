"""A budget is a polynomial in the keep fractions of the masks, Σ cost · Π keep[site], and a limit on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import reduce
from operator import mul

import torch
from torch import Tensor, nn

from .mask import masks

PRUNED_TYPES = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
"""Modules whose weights are counted and pruned. Biases and normalisation never are."""
_PRUNED_TENSORS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Term:
    """cost · Π keep[site]; cost in weights or MACs of the dense network."""

    cost: float
    sites: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """At most ``keep`` of the cost of the dense network may stay."""

    keep: float
    terms: tuple[Term, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the weights that take part, in network order."""
        return tuple(dict.fromkeys(site for term in self.terms for site in term.sites))

    @property
    def total(self) -> float:
        """Cost of the dense network."""
        return sum(term.cost for term in self.terms)

    def share(self, keeps: Mapping[str, Tensor] | Mapping[str, float]):
        """The fraction of the dense cost that these keep fractions use: a tensor for tensors, a float for floats."""
        return sum(term.cost / self.total * reduce(mul, (keeps[site] for site in term.sites)) for term in self.terms)

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


def weight_budget(model: nn.Module, keep: float, *, exclude: Sequence[str] = ()) -> Budget:
    """At most ``round(keep · N)`` of the N convolution, linear and attention-projection weights may stay.

    ``exclude`` are name patterns (``"classifier.*"``) of weights that are neither pruned nor counted in N.
    Raises ValueError for a pattern that matches nothing, a weight that two modules share, or a budget smaller than
    the number of layers (each keeps at least one weight).
    """
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        raise ValueError(f"keep={keep!r} must lie in (0, 1]: the fraction of weights that stays, e.g. 0.01 for 1 %")
    if isinstance(exclude, str):
        raise TypeError(f"exclude={exclude!r} must be a sequence of patterns; write [{exclude!r}]")
    weights = prunable_weights(model)
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise ValueError(f"exclude pattern {pattern!r} matches no weight; the prunable weights are {list(weights)}")
    kept_in = {n: w for n, w in weights.items() if not any(fnmatchcase(n, pattern) for pattern in exclude)}
    _refuse_shared(model, kept_in)
    total = sum(w.numel() for w in kept_in.values())
    if not kept_in:
        raise ValueError("nothing is left to prune: the model has no convolution or linear weight outside `exclude`")
    if round(keep * total) < len(kept_in):
        smallest = len(kept_in) / total
        raise ValueError(
            f"keep={keep:g} leaves {round(keep * total)} of {total} weights for {len(kept_in)} layers, and every layer "
            f"keeps at least one; choose keep >= {smallest:.3g} or leave layers out with `exclude`"
        )
    return Budget(keep, tuple(Term(w.numel(), (name,)) for name, w in kept_in.items()))


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that can be pruned, by name, each module once however often it is called."""
    found = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, PRUNED_TYPES):
            continue
        for name in _PRUNED_TENSORS:
            weight = module._parameters.get(name)
            if weight is not None:
                if isinstance(weight, nn.parameter.UninitializedParameter):
                    raise ValueError(f"{prefix}.{name} has no shape yet; run one batch through the model first")
                found[f"{prefix}.{name}" if prefix else name] = weight
    return found


def _refuse_shared(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
    owners: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(f"{prefix}.{name}" if prefix else name)
    for weight in weights.values():
        names = owners[id(weight)]
        if len(names) > 1:
            raise ValueError(
                f"{' and '.join(names)} share one weight, which can have only one mask; exclude it: exclude={names}"
            )


def exact_counts(keeps: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Integer quotas of exactly ``total`` entries, at least one a layer, as near as possible to the fractions ``keeps``.

    All logits are shifted by one common offset, found by bisection, until the fractions spend ``total``; the fractions
    of entries that remain are handed out by largest remainder, ties by order.
    """
    if not len(sizes) <= total <= sum(sizes.values()):
        raise ValueError(
            f"total={total} must lie between the {len(sizes)} layers and their {sum(sizes.values())} entries"
        )

    def spread(offset: float) -> dict[str, float]:
        return {n: min(max(sizes[n] * _shifted(keeps[n], offset), 1.0), float(sizes[n])) for n in sizes}

    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(spread(middle).values()) < total else (low, middle)
    # `high` spends at least `total` and `low` less, so rounding down from `low` never overshoots.
    wanted = spread(0.0) if sum(spread(0.0).values()) == total else spread(low)
    counts = {name: math.floor(value + 1e-9) for name, value in wanted.items()}
    by_remainder = sorted(counts, key=lambda name: counts[name] - wanted[name])
    while sum(counts.values()) < total:
        for name in by_remainder:
            if counts[name] < sizes[name] and sum(counts.values()) < total:
                counts[name] += 1
    assert sum(counts.values()) == total
    return counts


def _shifted(keep: float, offset: float) -> float:
    keep = min(max(keep, 1e-12), 1.0)
    if keep == 1.0:
        return 1.0 if offset >= 0 else math.exp(min(offset, 0.0))  # a fraction of 1 has no logit; it may only shrink
    odds = keep / (1 - keep) * math.exp(offset)
    return odds / (1 + odds)
