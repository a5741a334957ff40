"""Gradual magnitude pruning (Zhu and Gupta 2017): weights learn under masks that are renewed every few steps, ever sparser.

    kept after step t  =  keep + (start − keep) · (1 − t / T)³,    T = settle · steps

A renewal splits what may stay now over the layers by the method's rule (uniform, ERK, LAMP, one threshold for all) and
keeps the entries of largest score in each. A pruned weight gets no gradient but stays in memory as it was, so it comes back
if others have become smaller; the code of the authors does the same. ``start`` is 1, or the share that is not zero
already: what is, stays so. After T the masks rest and what they keep learns on.
"""

from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.budget import Budget
from harp.pruning.counts import exact_counts
from harp.pruning.mask import Mask, masks, parametrizations
from harp.pruning.methods import GRADUAL, Method
from harp.pruning.prunable import alive
from harp.pruning.selection import top
from harp.pruning.weights import scores_of


class Gradual:
    """Renews the masks of a model: after ``attach_masks(model, budget, method)`` call ``step()`` after each optimiser step.

    ``steps`` are those of the whole prune stage, ``settle`` the share of it after which the budget is met exactly, and
    ``every`` how many steps apart two renewals are.
    """

    moves_logits = False
    gamma: float | None = None

    def __init__(
        self, model: nn.Module, budget: Budget, steps: int, *, method: Method, settle: float = 0.6, every: int = 8
    ):
        if steps < 1 or every < 1:
            raise ValueError(f"steps={steps} and every={every} must be at least 1")
        if not 0 < settle <= 1:
            raise ValueError(
                f"settle={settle} must lie in (0, 1]: the share of the stage after which the budget is met"
            )
        if method.learn != GRADUAL:
            raise ValueError(f"method learns {set(method.learn)}; gradual pruning is for those of {set(GRADUAL)}: GMP")
        self.masks, self.weights = under_masks(model, budget)
        self.budget, self.method, self.every = budget, method, every
        self.most = {site: alive(weight) for site, weight in self.weights.items()}
        self.start = sum(self.most.values()) / budget.total
        self.last = max(1, round(settle * steps))
        """The step at which the budget is met."""
        self.done = 0

    def start_epoch(self) -> None:
        """Nothing depends on epochs."""

    def loss(self) -> float:
        """Nothing pulls at the weights."""
        return 0.0

    def goal(self) -> float:
        """The fraction that the schedule keeps after the steps done so far."""
        left = max(0.0, 1 - self.done / self.last)
        return self.budget.keep + (self.start - self.budget.keep) * left**3

    def step(self) -> None:
        """Count a step of the optimiser, and renew the masks when it is time."""
        self.done += 1
        if self.done == self.last:
            self.cut()
        elif self.done < self.last and self.done % self.every == 0:
            self._renew(self.goal(), round(self.goal() * self.budget.total))

    def cut(self) -> None:
        """Masks of exactly the budget, from the weights as they are now; those that are so already stay."""
        if sum(mask.count for mask in self.masks.values()) != self.budget.limit:
            self._renew(self.budget.keep, self.budget.limit)

    @torch.no_grad()
    def _renew(self, keep: float, limit: int) -> None:
        sizes = {site: weight.numel() for site, weight in self.weights.items()}
        counts = exact_counts(self.method.keeps(self.weights, keep), sizes, limit, most=self.most)
        for site, weight in self.weights.items():
            self.masks[site].freeze(top(scores_of(self.method, weight), counts[site]))

    def state_dict(self) -> dict[str, Any]:
        """The masks travel with the model."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]


def under_masks(model: nn.Module, budget: Budget) -> tuple[dict[str, Mask], dict[str, Tensor]]:
    """The masks of a budget, and the weights under them, by site."""
    found = masks(model)
    missing = [site for site in budget.sites if site not in found]
    if missing:
        raise ValueError(f"the model has no mask at {missing}; call attach_masks(model, budget, method) first")
    return {site: found[site] for site in budget.sites}, {site: _under_mask(model, site) for site in budget.sites}


def _under_mask(model: nn.Module, site: str) -> Tensor:
    prefix, _, tensor_name = site.rpartition(".")
    weight = parametrizations(model.get_submodule(prefix))[tensor_name].original
    assert isinstance(weight, nn.Parameter)
    return weight
