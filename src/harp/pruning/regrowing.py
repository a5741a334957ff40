"""Flying Bird and Flying Bird+ (Chen et al. 2022): weights learn under sparse masks that drop the smallest and grow elsewhere.

    replaced in a layer at step t  =  ⌊f(t) · kept⌋,    f(t) = drop / 2 · (1 + cos(π t / steps))

A renewal drops that many of the smallest kept weights of each layer, and keeps as many others instead: those of the largest
gradient, of what was dropped and what was not kept, counted as if every weight were there. What grows starts at zero, and
what is dropped becomes zero; a weight that is dropped and grown at once stays as it is. A weight that was zero in the
parent never grows.

Flying Bird+ starts with ``start`` times the budget. A renewal drops more (0.4 of what it replaces) while the gap between
training and validation accuracy under attack widens, and grows more (0.05 of it) while the latter falls: in at least half
of the last four epochs. What is kept stays between the budget and the start. After ``settle`` of the steps it is cut to the
budget, and goes on as Flying Bird.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.budget import Budget
from harp.pruning.counts import exact_counts
from harp.pruning.gradual import under_masks
from harp.pruning.methods import GRADUAL, Method
from harp.pruning.prunable import alive
from harp.pruning.selection import top
from harp.pruning.weights import scores_of

_EPOCHS, _ENOUGH = 4, 0.5
"""Flying Bird+ looks at so many differences between epochs, and acts on this share of them."""
_DROP_MORE, _GROW_MORE = 0.4, 0.05
_EQUAL = 1e-9
"""Differences of accuracies that are but rounding."""
RENEWALS = 78
"""In the 200 epochs of the authors' code, one per 900 steps."""


@dataclass(frozen=True)
class Regrowth:
    """How Flying Bird replaces weights; ``start`` and ``settle`` are for Flying Bird+ alone."""

    drop: float = 0.5
    every: int | None = None
    """Optimiser steps from one renewal to the next; None is a 78th of all of them, as in the authors' code."""
    start: float = 2.0
    settle: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.drop <= 1:
            raise ValueError(
                f"drop={self.drop} must lie in (0, 1]: the share of the kept weights that is replaced at first"
            )
        if self.every is not None and self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1 step, or None")
        if not self.start >= 1:
            raise ValueError(
                f"start={self.start} must be at least 1: how many times the budget Flying Bird+ starts with"
            )
        if not 0 < self.settle <= 1:
            raise ValueError(
                f"settle={self.settle} must lie in (0, 1]: the share of the stage after which the budget is met"
            )


class FlyingBird:
    """Renews the masks of a model: after ``attach_masks(model, budget, method)``, and before there is an optimiser.

    Call ``step()`` after each step of the optimiser, while gradients are still there; for Flying Bird+ ``end_epoch`` as well.
    """

    moves_logits = False
    gamma: float | None = None

    def __init__(self, model: nn.Module, budget: Budget, steps: int, *, method: Method, how: Regrowth = Regrowth()):
        if steps < 1:
            raise ValueError(f"steps={steps} must be at least 1")
        if method.learn != GRADUAL or method.rule not in ("regrow", "regrow-adaptive"):
            raise ValueError(
                "method must be one whose rule is 'regrow' or 'regrow-adaptive': FLYING_BIRD, FLYING_BIRD_PLUS"
            )
        self.masks, self.weights = under_masks(model, budget)
        self.budget, self.method, self.how, self.steps = budget, method, how, steps
        self.adaptive = method.rule == "regrow-adaptive"
        self.every = how.every or max(1, steps // RENEWALS)
        self.settled = max(1, round(how.settle * steps))
        self.allowed = {site: mask.current().clone() for site, mask in self.masks.items()}
        self.most = {site: alive(weight) for site, weight in self.weights.items()}
        self.done, self.gaps, self.accuracies = 0, list[float](), list[float]()
        self.gradients: dict[str, Tensor] = {}
        share = how.start if self.adaptive else 1.0
        self.start = max(budget.limit, min(round(share * budget.limit), sum(self.most.values())))
        keeps = method.keeps(self.weights, self.start / budget.total)
        self._keep_largest(self._counts(keeps, self.start))
        self._ask()

    def start_epoch(self) -> None:
        """Nothing happens at the start of an epoch."""

    def loss(self) -> float:
        """Nothing pulls at the weights."""
        return 0.0

    def end_epoch(self, training: float, validation: float) -> None:
        """Accuracies under attack after an epoch, on training and on validation images: what Flying Bird+ goes by."""
        self.gaps.append(training - validation)
        self.accuracies.append(validation)

    def fraction(self) -> float:
        """The share of a layer's kept weights that a renewal replaces now."""
        return self.how.drop / 2 * (1 + math.cos(math.pi * min(self.done / self.steps, 1.0)))

    def note_gradients(self) -> None:
        """Take the gradients of all weights before the step of an optimiser, and leave it those of the kept ones."""
        if not self._is_due():
            return
        self.gradients = {site: _gradient_of(site, weight).clone() for site, weight in self.weights.items()}
        for site, weight in self.weights.items():
            assert weight.grad is not None
            weight.grad.mul_(self.masks[site].current())

    def step(self) -> None:
        """Count a step of the optimiser, and renew the masks when it is time."""
        due = self._is_due()
        self.done += 1
        if self.adaptive and self.done == self.settled:
            self.cut()
        elif due:
            seen = self.gradients or {site: _gradient_of(site, weight) for site, weight in self.weights.items()}
            self._renew(seen)
        self.gradients = {}
        self._ask()

    def cut(self) -> None:
        """Masks of exactly the budget, by magnitude; those that are so already stay."""
        if sum(mask.count for mask in self.masks.values()) != self.budget.limit:
            shares = {site: mask.count / mask.size for site, mask in self.masks.items()}
            self._keep_largest(self._counts(shares, self.budget.limit))

    def _is_due(self) -> bool:
        return (self.done + 1) % self.every == 0 and self.done + 1 < self.steps

    def _ask(self) -> None:
        """Weights that are not kept have gradients in those steps after which masks are renewed, and in no others."""
        for mask in self.masks.values():
            mask.all_gradients = self._is_due()

    @torch.no_grad()
    def _renew(self, gradients: Mapping[str, Tensor]) -> None:
        stay, grown = self._numbers()
        for site, weight in self.weights.items():
            mask = self.masks[site]
            kept = mask.current()
            survives = kept & top(torch.where(kept, scores_of(self.method, weight).abs() + 1e-30, 0.0), stay[site])
            free = self.allowed[site] & ~survives
            # Every free one before any that is not, be its gradient zero.
            found = torch.where(free, gradients[site].nan_to_num(0.0, 0.0, 0.0).abs() + 1e-30, 0.0)
            new = survives if grown[site] == 0 else survives | (free & top(found, grown[site]))
            weight.mul_(kept & new)
            mask.freeze(new)

    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many weights of each layer stay, and how many grow."""
        counts = {site: mask.count for site, mask in self.masks.items()}
        replaced = {site: math.floor(self.fraction() * count) for site, count in counts.items()}
        after = counts
        if self.adaptive and self.done < self.settled:
            after = self._adapted(counts, replaced)
        stay = {site: max(min(count - replaced[site], after[site]), 0) for site, count in counts.items()}
        return stay, {site: after[site] - stay[site] for site in counts}

    def _adapted(self, counts: dict[str, int], replaced: dict[str, int]) -> dict[str, int]:
        """What Flying Bird+ keeps of each layer after a renewal, within the budget and the start."""
        less = _DROP_MORE if _often([b > a + _EQUAL for a, b in pairwise(self.gaps)]) else 0.0
        more = _GROW_MORE if _often([b < a - _EQUAL for a, b in pairwise(self.accuracies)]) else 0.0
        if not less and not more:
            return counts
        wanted = {site: counts[site] + (more - less) * replaced[site] for site in counts}
        total = min(max(round(sum(wanted.values())), self.budget.limit), self.start)
        sizes = {site: weight.numel() for site, weight in self.weights.items()}
        shares = {site: min(max(wanted[site] / sizes[site], 0.0), 1.0) for site in counts}
        return self._counts(shares, total)

    def _counts(self, shares: Mapping[str, float], total: int) -> dict[str, int]:
        sizes = {site: weight.numel() for site, weight in self.weights.items()}
        return exact_counts(shares, sizes, total, most=self.most)

    @torch.no_grad()
    def _keep_largest(self, counts: Mapping[str, int]) -> None:
        for site, weight in self.weights.items():
            mask = self.masks[site]
            chosen = mask.current() & top(scores_of(self.method, weight), counts[site])
            weight.mul_(chosen)
            mask.freeze(chosen)

    def state_dict(self) -> dict[str, Any]:
        """The masks travel with the model."""
        return {"done": self.done, "gaps": list(self.gaps), "accuracies": list(self.accuracies)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self.gaps, self.accuracies = state["done"], list(state["gaps"]), list(state["accuracies"])
        self._ask()


def _often(seen: list[bool]) -> bool:
    last = seen[-_EPOCHS:]
    return bool(last) and sum(last) >= _ENOUGH * len(last)


def _gradient_of(site: str, weight: Tensor) -> Tensor:
    if weight.grad is None:
        raise ValueError(
            f"{site} has no gradient to grow weights by: call step() once after loss.backward() and optimizer.step(), and "
            "before optimizer.zero_grad()"
        )
    return weight.grad
