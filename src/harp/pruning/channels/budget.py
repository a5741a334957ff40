"""At most so much of a network's multiply-accumulates, parameters, or both, reached by removing whole channels."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from harp.pruning.budget import Budget, Layers, Projection, Term, aligned
from harp.pruning.channels.counts import Limit, allowed_counts, counts_within
from harp.pruning.channels.coupling import Coupling, Polynomial
from harp.pruning.channels.grouping import couple_channels
from harp.pruning.channels.rehearsing import settled
from harp.pruning.deprecation import keyword_only
from harp.pruning.mask import Mask, masks
from harp.pruning.methods import Method
from harp.pruning.prunable import FOLLOWED_TYPES, prunable_shapes, prunable_weights
from harp.pruning.using import as_example

Measure = Literal["macs", "parameters"]


@dataclass(frozen=True, eq=False, repr=False)
class ChannelBudget(Budget):
    """A budget whose sites are groups of coupled channels; degree 2, since a layer reads some and writes others.

    ``also`` is the budget on the other measure, if there is one: both are then met.
    """

    measure: Measure
    coupling: Coupling
    cost: Polynomial
    multiple_of: int = 1
    also: "ChannelBudget | None" = None

    def __repr__(self) -> str:
        found = [self, self.also] if self.also else [self]
        parts = [f"keep={b.keep:g}: {b.limit:,} of {b.total:,.0f} {b.measure} may stay" for b in found]
        sizes = self.coupling.sizes
        return f"ChannelBudget({'; '.join(parts)}; {sum(sizes.values()):,} channels in {len(sizes)} groups)"

    def table(self) -> str:
        """One line per group: its name, its channels, what all of them cost, and how many weights read them."""
        costs, read = self._costs(), Counter(name for axis in self.coupling.read() for name in self.coupling.held(axis))
        rows = [
            (name, f"{size:,} channels", f"{costs.get(name, 0):,.0f} {self.measure}", f"read by {read[name]:,}")
            for name, size in self.coupling.sizes.items()
        ]
        return aligned(rows)

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.coupling.sizes)

    @property
    def limit(self) -> int:
        """The whole cost that may stay: never more than keep · total."""
        return math.floor(self.keep * self.total + 1e-9)

    @property
    def limits(self) -> list[Limit]:
        """Every measure that is limited."""
        return [Limit(self.cost, self.limit), *(self.also.limits if self.also else [])]

    def share(self, keeps: Mapping[str, Tensor | float]) -> Tensor:
        share = super().share(keeps)
        if self.also is None:
            return share
        # On the scale of this budget, so that both are met when the larger of the two is.
        return torch.maximum(share, self.also.share(keeps) * (self.keep / self.also.keep))

    @property
    def unit(self) -> str:
        return self.measure

    @property
    def parts(self) -> str:
        return "channels"

    def density(self, model: nn.Module) -> float:
        with torch.no_grad():
            return self.used(model).item()

    # Where masks on channels start, and where they are, is written in terms of this class.

    def attach(self, model: nn.Module, method: Method) -> None:
        from harp.pruning.channels.starts import attach_channel_masks

        attach_channel_masks(model, self, method)

    def attach_open(self, model: nn.Module) -> None:
        raise ValueError(
            f"budget={self} is on channels, and gradual pruning removes single weights: take weight_budget"
        )

    def attach_frozen(self, model: nn.Module, chosen: Mapping[str, Tensor]) -> None:
        from harp.pruning.channels.starts import attach_frozen_channel_masks

        attach_frozen_channel_masks(model, self, chosen)

    def projection(self, model: nn.Module, method: Method) -> Projection:
        from harp.pruning.channels.projection import ChannelProjection

        return ChannelProjection(model, self, method)

    def final_counts(self, found: Mapping[str, Mask]) -> dict[str, int]:
        return self.counts({name: float(mask.keep.detach()) for name, mask in found.items()})

    def layers(self, model: nn.Module, counts: Mapping[str, int]) -> Layers:
        """A weight stays when what it reads and what it writes does."""
        every = {name: shape.numel() for name, shape in prunable_shapes(model, types=FOLLOWED_TYPES).items()}
        return {n: {"kept": self.coupling.entries(n, counts), "total": total} for n, total in every.items()}

    def counted(self, layers: Layers) -> Layers:
        return layers

    def met_by(self, counts: Mapping[str, int]) -> bool:
        return self.allows(counts)

    def channels(self, counts: Mapping[str, int]) -> dict[str, Any]:
        """What a network would be without the channels that its masks remove, exactly."""
        costs = {measure: Limit(self.coupling.cost(measure), 0) for measure in get_args(Measure)}
        sizes = self.coupling.sizes
        return {
            "measure": self.measure if self.also is None else "both",
            **{name: {"kept": cost.spent(counts), "total": cost.spent(sizes)} for name, cost in costs.items()},
            "groups": {name: {"kept": n, "total": sizes[name]} for name, n in counts.items()},
        }

    def spent(self, counts: Mapping[str, int]) -> int:
        """The cost of so many channels in each group, exactly."""
        return Limit(self.cost, self.limit).spent(counts)

    def allows(self, counts: Mapping[str, int]) -> bool:
        return all(limit.spent(counts) <= limit.most for limit in self.limits)

    @property
    def allowed(self) -> dict[str, list[int]]:
        """How many channels of each group may stay."""
        return {name: allowed_counts(size, self._step(name)) for name, size in self.coupling.sizes.items()}

    def counts(self, keeps: Mapping[str, float]) -> dict[str, int]:
        """Whole numbers of channels near the fractions ``keeps`` that meet the budget, within one channel of it."""
        strange = {name: keep for name, keep in keeps.items() if not 0 <= keep <= 1}
        if strange:
            raise ValueError(
                f"keep fractions {strange} must lie in [0, 1]; if learning diverged, go back to a good state"
            )
        return counts_within(self.limits, keeps, self.allowed)

    def _step(self, name: str) -> int:
        return self.multiple_of // math.gcd(self.multiple_of, self.coupling.width(name))


@keyword_only("keep", 2)
def channel_budget(
    model: nn.Module,
    example: Tensor,
    *,
    keep: float | Mapping[Measure, float],
    measure: Measure = "macs",
    exclude: Sequence[str] = (),
    multiple_of: int = 1,
) -> ChannelBudget:
    """At most ``keep`` of the network's multiply-accumulates (or parameters) may stay, by removing whole channels.

    Everything is measured on the model itself with the first image of ``example``; layers that cannot be pruned count,
    too. ``keep={"macs": 0.5, "parameters": 0.25}`` meets both. ``exclude`` are name patterns (``"classifier.*"``) of
    weights, or of modules with all that is in them, whose channels stay. A group keeps a ``multiple_of`` channels, or
    all it has. Raises ValueError for an operation through which channels cannot be followed, a pattern that matches
    nothing, and a budget that even one channel per group exceeds.
    """
    wanted: dict[Measure, float] = dict(keep) if isinstance(keep, Mapping) else {measure: keep}
    example = as_example(model, example)
    _check(model, example, wanted, exclude, multiple_of)
    coupling = settled(model, example, couple_channels(model, example, exclude))
    if not coupling.sizes:
        outside = f" outside exclude={list(exclude)}" if exclude else ""
        raise ValueError(
            f"nothing is left to prune: no channel{outside} can go. What holds them: {coupling.why_held()}"
        )
    budget = None
    for name, fraction in reversed([*wanted.items()]):
        cost = coupling.cost(name)
        terms = tuple(
            Term(float(c * math.prod(coupling.sizes[site] for site in sites)), sites) for sites, c in cost.items()
        )
        budget = ChannelBudget(fraction, terms, name, coupling, cost, multiple_of, budget)
        _refuse_unreachable(budget, exclude)
    assert budget is not None
    return budget


def _check(
    model: nn.Module, example: Tensor, wanted: Mapping[Measure, float], exclude: Sequence[str], multiple_of: int
) -> None:
    if isinstance(exclude, str):
        raise TypeError(f"exclude={exclude!r} must be a sequence of patterns; write [{exclude!r}]")
    if not wanted or not set(wanted) <= set(get_args(Measure)):
        raise ValueError(f"measure={[*wanted]} must be 'macs' or 'parameters', or keep a fraction for each of them")
    for fraction in wanted.values():
        Budget(fraction, ())
    if isinstance(multiple_of, bool) or multiple_of < 1:
        raise ValueError(f"multiple_of={multiple_of!r} must be at least 1, e.g. 8 for kernels that work on 8 channels")
    if len(example) < 1:
        raise ValueError(f"example has shape {tuple(example.shape)} and must hold at least one image")
    if masks(model):
        raise ValueError("the model already has masks; make the budget before attach_masks, or bake_masks(model) first")
    names = [*prunable_weights(model, types=FOLLOWED_TYPES), *(name for name, _ in model.named_modules() if name)]
    unmatched = [pattern for pattern in exclude if not any(fnmatchcase(name, pattern) for name in names)]
    if unmatched:
        raise ValueError(
            f"exclude patterns {unmatched} match no weight and no module; the weights are {list(prunable_weights(model, types=FOLLOWED_TYPES))}"
        )


def _refuse_unreachable(budget: ChannelBudget, exclude: Sequence[str]) -> None:
    least = budget.spent({name: counts[0] for name, counts in budget.allowed.items()})
    if least > budget.limit:
        smallest = math.ceil(least / budget.total * 1e4) / 1e4
        left_out = f" and exclude={list(exclude)} leaves layers out" if exclude else ""
        raise ValueError(
            f"keep={budget.keep:g} allows {budget.limit:,} of {budget.total:,.0f} {budget.measure}, and {least:,} remain "
            f"when every group has as few channels as it may{left_out}. What holds others: {budget.coupling.why_held()}; "
            f"the smallest reachable is keep={smallest:g}"
        )
