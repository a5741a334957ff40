"""Scores and a keep fraction in, a 0/1 mask out, with straight-through gradients.

A :class:`Mask` is a parametrization of one weight. It is in one of two states, and its ``state_dict`` says which:
*learning* (``scores`` and a ``logit`` or a fixed ``quota``) or *frozen* (``mask``, one bool an entry).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

Estimator = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(dL/dmask, scores, mask) -> dL/dkeep``, a scalar."""


def paper_sum(grad_mask: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """dL/da = Σ_i dL/dM_i over every entry of the layer (HARP, eq. 5)."""
    return grad_mask.sum()


class Mask(nn.Module):
    """weight ↦ weight ⊙ mask, where the mask keeps the ``round(keep · n)`` entries of largest |score|, at least one.

    ``scores`` only has to broadcast against the weight: its shape is the granularity. ``keep`` is
    a_min + (1 − a_min) · sigmoid(logit) when it is learned and a plain buffer when it is not (a sigmoid cannot say 1).
    """

    def __init__(self, scores: Tensor, keep: float, *, learn: frozenset[str], keep_min: float, estimator: Estimator):
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} must lie in (0, 1]")
        self.keep_min = keep_min
        self.learn = learn
        self.estimator = estimator
        self.held: Tensor | None = None
        self.budget: Any = None
        self.resting: frozenset[str] = frozenset()
        self.register_parameter("scores", nn.Parameter(scores.detach().clone(), requires_grad="scores" in learn))
        logit = logit_of(keep, keep_min) if "keeps" in learn else None
        self.register_parameter("logit", None if logit is None else nn.Parameter(scores.new_tensor(logit)))
        self.register_buffer("quota", None if logit is not None else torch.tensor(keep, dtype=torch.float64))
        self.register_buffer("mask", None)

    @property
    def frozen(self) -> bool:
        return self.mask is not None

    @property
    def size(self) -> int:
        """Entries the mask decides about."""
        return (self.scores if self.mask is None else self.mask).numel()

    @property
    def keep(self) -> Float[Tensor, ""]:
        """The fraction kept now; differentiable in ``logit`` while it is learned."""
        if self.mask is not None:
            return self.mask.count_nonzero() / self.mask.numel()
        if self.logit is None:
            return self.quota
        return self.keep_min + (1 - self.keep_min) * torch.sigmoid(self.logit.float())

    def count(self, keep: float) -> int:
        return min(max(round(keep * self.size), 1), self.size)

    def current(self) -> Bool[Tensor, "..."]:
        """The mask in force: the frozen one, the held one, or one computed from the scores as they are now."""
        if self.mask is not None:
            return self.mask
        return top(self.scores, self.count(float(self.keep))) if self.held is None else self.held

    def freeze(self, count: int) -> None:
        """Keep exactly ``count`` entries from now on; scores and logit are gone."""
        self._settle(top(self.scores, count))

    def _settle(self, mask: Tensor) -> None:
        self.register_buffer("mask", mask)
        self.scores = self.logit = self.quota = self.held = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.mask is not None:
            return weight * self.mask
        return _MaskedWeight.apply(weight, self.scores, self.keep, self.current(), self.estimator)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args) -> None:
        mask = state_dict.get(prefix + "mask")
        if mask is not None and self.mask is None and mask.shape == self.scores.shape:
            self._settle(torch.empty_like(self.scores, dtype=torch.bool))  # a frozen state arrives in a learning model
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"size={self.size}, keep={float(self.keep):.4g}, {'frozen' if self.frozen else 'learning'}"


class _MaskedWeight(torch.autograd.Function):
    """weight ⊙ mask forward; dL/d|S| = dL/dM and dL/dkeep = estimator(dL/dM) backward, where M is the mask."""

    @staticmethod
    def forward(ctx, weight, scores, keep, mask, estimator):
        ctx.save_for_backward(weight, scores, mask)
        ctx.estimator = estimator
        return weight * mask

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        weight, scores, mask = ctx.saved_tensors
        grad_weight = grad * mask if ctx.needs_input_grad[0] else None
        grad_scores = grad_keep = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_mask = (grad * weight).sum_to_size(scores.shape)
            if ctx.needs_input_grad[1]:
                grad_scores = grad_mask * scores.sign()
            if ctx.needs_input_grad[2]:
                grad_keep = ctx.estimator(grad_mask, scores, mask)
        return grad_weight, grad_scores, grad_keep, None, None


def logit_of(keep: float, keep_min: float) -> float:
    """The exact inverse of keep = keep_min + (1 − keep_min) · sigmoid(logit)."""
    if not keep_min < keep < 1:
        raise ValueError(f"a learned keep fraction must start inside ({keep_min:g}, 1), got keep={keep:g}")
    fraction = (keep - keep_min) / (1 - keep_min)
    return math.log(fraction / (1 - fraction))


def top(scores: Float[Tensor, "..."], count: int) -> Bool[Tensor, "..."]:
    """True at the ``count`` entries of largest |score|; of equals, the ones that come first."""
    size = scores.detach().abs().flatten()
    if count >= size.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    if size.is_cuda:  # one long row: kthvalue is slower than a sort there
        threshold = size.sort(descending=True).values[count - 1]
    else:
        threshold = size.kthvalue(size.numel() - count + 1).values
    above = size > threshold
    equal = size == threshold
    first = equal.cumsum(0) <= count - above.count_nonzero()
    return (above | (equal & first)).view_as(scores)


def masks(model: nn.Module) -> dict[str, Mask]:
    """Every mask in the model, by the name its weight has in the unmasked network, e.g. ``"layer1.0.conv1.weight"``."""
    found = {}
    for prefix, module in model.named_modules():
        if isinstance(module, ParametrizationList) or not is_parametrized(module):
            continue
        for tensor_name, chain in module.parametrizations.items():
            for parametrization in chain:
                if isinstance(parametrization, Mask):
                    found[f"{prefix}.{tensor_name}" if prefix else tensor_name] = parametrization
    return found


@contextmanager
def hold_masks(model: nn.Module) -> Iterator[None]:
    """Compute every mask once and use it for all forwards inside the ``with``: one training step, one set of masks.

    Nested holds keep the outermost masks. The optimiser steps outside, or the masks of the next step would be stale.
    """
    learning = [mask for mask in masks(model).values() if not mask.frozen and mask.held is None]
    if learning:
        with torch.no_grad():  # one transfer for all layers, not one each
            keeps = torch.stack([mask.keep.double() for mask in learning]).tolist()
        for mask, keep in zip(learning, keeps, strict=True):
            mask.held = top(mask.scores, mask.count(keep))
    try:
        yield
    finally:
        for mask in learning:
            mask.held = None
