"""weight_budget: which weights of a network a budget counts, which of them a pass uses, and what it leaves out."""

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from harp.pruning.budget import Budget, Term
from harp.pruning.deprecation import keyword_only
from harp.pruning.mask import masks
from harp.pruning.prunable import computed_weights, other_parameters, prunable_weights, refuse_computed, refuse_shared
from harp.pruning.using import Uses, check_plain, patterns, uses

log = logging.getLogger(__name__)

_WORTH_SAYING = 0.01
"""Share of the parameters from which on a warning says that they are not counted."""


@keyword_only("keep", 1)
def weight_budget(
    model: nn.Module,
    *,
    keep: float,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    example: Tensor | None = None,
) -> Budget:
    """At most ``round(keep · N)`` of the N weights of convolutions, linear, bilinear and recurrent layers and attention may stay.

    ``exclude`` are name patterns (``"classifier.*"``) of weights that are neither pruned nor counted in N, ``include``
    those of further parameters that are: embeddings, and matrices of your own modules.
    Raises ValueError for a pattern that matches nothing, a weight that two modules share or that is computed (by weight
    norm, say), or a budget smaller than the number of layers (each keeps at least one weight).

    With an ``example``, a batch of images, one forward pass is watched: a matrix of your own that is a factor of a product
    is counted without being named; a weight that is remade before it is used (standardised, say) is a ValueError, since its
    zeros would not stay; weights that inference never uses are a warning. Another warning names what is left out, if it is
    more than a hundredth of all parameters.
    """
    for name, given in (("exclude", exclude), ("include", include)):
        if isinstance(given, str):
            raise TypeError(f"{name}={given!r} must be a sequence of patterns; write [{given!r}]")
    check_plain(model)
    if masks(model):
        raise ValueError("the model already has masks; make the budget before attach_masks, or bake_masks(model) first")
    own = [] if example is None else _factors(model, example)
    budget = _count(model, keep, exclude, [*include, *own])
    if example is not None:
        every = prunable_weights(model, budget.sites)
        _look_at_a_pass(model, example, {name: every[name] for name in budget.sites}, list(every))
    if sum(size for _, size in budget.uncounted) > _WORTH_SAYING * budget.parameters:
        log.warning("the budget leaves parameters out%s; include=[…] prunes and counts them", budget.left_out)
    return budget


def budget_of_sites(model: nn.Module, *, keep: float, exclude: Sequence[str], sites: Sequence[str]) -> Budget:
    """The budget that masks at these sites were made for. Nothing is looked at, and nothing said."""
    return _count(model, keep, exclude, [name for name in other_parameters(model) if name in sites])


def _factors(model: nn.Module, example: Tensor) -> list[str]:
    """Matrices of modules of the user's own that are factors of products as they are stored."""
    own = {name: parameter for name, parameter in other_parameters(model).items() if parameter.dim() == 2}
    found = uses(model, example, own) if own else Uses()
    return [name for name in own if name in found.factors - found.remade]


def _count(model: nn.Module, keep: float, exclude: Sequence[str], include: Sequence[str]) -> Budget:
    others, computed = other_parameters(model), computed_weights(model)
    wanted = [name for name in others if _matches(name, include)]
    every = prunable_weights(model, wanted)
    unmatched = [p for p in exclude if not any(fnmatchcase(name, p) for name in [*every, *others, *computed])]
    if unmatched:
        raise ValueError(f"exclude patterns {unmatched} match no weight; the prunable weights are {list(every)}")
    unmatched = [p for p in include if not any(fnmatchcase(name, p) for name in [*every, *others])]
    if unmatched:
        raise ValueError(f"include patterns {unmatched} match no parameter of two dimensions; there are {list(others)}")
    refuse_computed([name for name in computed if not _matches(name, exclude)])
    weights = {name: weight for name, weight in every.items() if not _matches(name, exclude)}
    refuse_shared(model, list(weights))
    if not weights:
        raise ValueError("nothing is left to prune: the model has no convolution or linear weight outside `exclude`")
    left_out = tuple((n, p.numel()) for n, p in others.items() if n not in weights and not _matches(n, exclude))
    terms = tuple(Term(float(weight.numel()), (name,)) for name, weight in weights.items())
    budget = Budget(keep, terms, uncounted=left_out, parameters=sum(p.numel() for p in model.parameters()))
    if budget.limit < len(terms):
        raise ValueError(
            f"keep={keep:g} leaves {budget.limit} of {budget.total:.0f} weights for {len(terms)} layers, and every layer "
            f"keeps at least one; choose keep >= {len(terms) / budget.total:.3g} or leave layers out with `exclude`"
        )
    return budget


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _look_at_a_pass(model: nn.Module, example: Tensor, weights: Mapping[str, nn.Parameter], every: list[str]) -> None:
    found = uses(model, example, weights)
    if found.remade:
        names, shown = sorted(found.remade), ", ".join(sorted(found.remade)[:3])
        more = f" and {len(names) - 3} others" if len(names) > 3 else ""
        raise ValueError(
            f"{shown}{more} {'is' if len(names) == 1 else 'are'} remade in the forward pass (standardised, for instance): the network computes with other "
            f"weights than those that a mask would be on, and its zeros would not stay. Use plain layers, or leave out "
            f"what is remade: exclude={patterns(names, every)}"
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
