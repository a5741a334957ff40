"""Prune in an ordinary training loop: three calls around it, thin over attach_masks, Descent, freeze_masks, bake_masks."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.budget import Budget
from harp.pruning.counting import weight_budget
from harp.pruning.descent import Descent
from harp.pruning.gradual import Gradual
from harp.pruning.lifecycle import attach_masks, bake_masks, freeze_masks, keep_logits
from harp.pruning.mask import masks
from harp.pruning.methods import GRADUAL, HARP, Method
from harp.pruning.regrowing import FlyingBird
from harp.pruning.remembered import Remembered

log = logging.getLogger(__name__)

_LOOKED_BACK = 10
"""Steps after which scores that never moved are reported."""


class Pruner:
    """Gives a model masks and brings it to the budget, while your loop trains it.

    ``keep`` is the fraction of all weights that may stay; or give a ``budget``. ``steps`` are the optimizer steps of the
    whole prune stage; methods that learn no keep fractions need none. Build the optimizer afterwards, from
    ``model.parameters()``: scores and norms learn, weights rest (no gradient, hence no step and no weight decay), and
    what an optimizer does to the keep fractions is undone, since :meth:`step` moves them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        keep: float | None = None,
        budget: Budget | None = None,
        method: Method = HARP,
        steps: int | None = None,
        exclude: Sequence[str] = (),
    ):
        if steps is not None and steps < 1:
            raise ValueError(f"steps={steps} must be at least 1: the optimizer steps of the whole prune stage")
        if method.rule == "ramp":
            raise ValueError(
                "method=HARP_PUBLISHED has the penalty of the paper, which joins your loss: attach_masks(model, budget, "
                "method), and harp.Penalty in your loop"
            )
        if steps is None and ("keeps" in method.learn or method.learn == GRADUAL):
            raise ValueError("steps=None: say how many optimizer steps the prune stage has, e.g. 20 * len(loader)")
        if budget is None:
            if keep is None:
                raise ValueError("keep=None and budget=None: give one of them, e.g. keep=0.01 for 1 % of the weights")
            budget = weight_budget(model, keep=keep, exclude=exclude)
        elif keep is not None or exclude:
            raise ValueError(f"keep={keep} and exclude={list(exclude)} are settled by the budget; leave them out")
        attach_masks(model, budget, method)
        self.model, self.budget, self.steps, self.done, self.frozen = model, budget, steps, 0, False
        self.rule = None if steps is None else _rule(model, budget, steps, method)
        self._before: dict[nn.Parameter, Tensor] = {}
        """Where keep fractions were when their gradient came, before any optimizer moved them."""
        self._hooks = [logit.register_post_accumulate_grad_hook(self._note) for logit in keep_logits(model)]
        self._scores = [mask.scores for mask in masks(model).values() if mask.scores is not None]
        self._start = [Remembered(scores, [scores]) for scores in self._scores if scores.requires_grad]

    @property
    def density(self) -> float:
        """The share of the dense cost that is kept now: it ends at the budget."""
        return self.budget.density(self.model)

    @torch.no_grad()
    def step(self) -> None:
        """Move the keep fractions along their schedule: after ``optimizer.step()``, before ``optimizer.zero_grad()``.

        Does nothing once the masks are frozen, so that one loop can serve pruning and finetuning.
        """
        logits = keep_logits(self.model)
        if isinstance(self.rule, Gradual | FlyingBird) and not self.frozen:
            return self.rule.step()
        if all(mask.frozen for mask in masks(self.model).values()):
            return
        if logits and all(logit.grad is None for logit in logits):
            raise ValueError(
                "the keep fractions have no gradient: call pruner.step() once after loss.backward() and "
                "optimizer.step(), and before optimizer.zero_grad()"
            )
        for logit, value in self._before.items():
            logit.copy_(value)
        self._before.clear()
        if self.rule is not None:
            self.rule.step()
        self.done += 1
        if self.done == _LOOKED_BACK:
            self._look_back()

    def freeze(self) -> nn.Module:
        """Fix the masks at exactly the budget: from now on the weights that stay learn, with the same optimizer or another."""
        if logits := keep_logits(self.model):
            density, steps = self.density, self.steps or 0
            if density > self.budget.keep * 1.01:
                log.warning(
                    "frozen after %d of %d steps, where %.3g of the dense cost is kept and the budget is %.3g: what is "
                    "too much goes at once",
                    *(self.done, steps, density, self.budget.keep),
                )
            for logit in logits:
                logit.grad = None
        for hook in self._hooks:
            hook.remove()
        for scores in self._scores:
            scores.grad = None  # an optimizer that still holds them leaves them alone
        self._hooks, self._scores, self._start = [], [], []
        if isinstance(self.rule, Gradual | FlyingBird):
            self.rule.cut()
        self.frozen = True
        return freeze_masks(self.model)

    def bake(self) -> nn.Module:
        """The plain network again, with zeros. Its parameters are the objects that they were."""
        return bake_masks(self.model)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed stage needs beside the states of model and optimizer."""
        return {"done": self.done, "descent": None if self.rule is None else self.rule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        if self.rule is not None:
            self.rule.load_state_dict(state["descent"])

    def _note(self, logit: Tensor) -> None:
        assert isinstance(logit, nn.Parameter)
        if logit not in self._before:
            self._before[logit] = logit.detach().clone()

    def _look_back(self) -> None:
        if self._start and all(start.is_of(start.value) for start in self._start):
            log.warning(
                "after %d steps no score has moved: build the optimizer after the Pruner, from model.parameters()",
                self.done,
            )
        self._start = []


def _rule(model: nn.Module, budget: Budget, steps: int, method: Method) -> Descent | Gradual | FlyingBird:
    if method.learn != GRADUAL:
        return Descent(model, budget, steps)
    how = Gradual if method.rule == "descent" else FlyingBird
    return how(model, budget, steps, method=method)
