"""Scores and a keep fraction in, a 0/1 mask out, with straight-through gradients.

A :class:`Mask` is a parametrization of one weight. It is in one of two states, and its ``state_dict`` says which:
*learning* (``scores`` and a ``logit`` or a fixed ``quota``) or *frozen* (``mask``, a byte of 0 or 1 per entry: what
averages the buffers of networks, as torch's AveragedModel does, cannot subtract booleans).
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from harp.pruning.remembered import Remembered, where_true
from harp.pruning.selection import top

if TYPE_CHECKING:
    from harp.pruning.budget import Budget

log = logging.getLogger(__name__)

Estimator = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(dL/dmask, scores, mask) -> dL/dkeep``, a scalar."""


class Mask(nn.Module):
    """weight ↦ weight ⊙ mask, where the mask keeps the ``round(keep · n)`` entries of largest |score|, at least one.

    ``scores`` only has to broadcast against the weight: its shape is the granularity. ``keep`` is
    a_min + (a_max − a_min) · sigmoid(logit) when it is learned, where a_max is 1, or the share of the
    weight's entries that are not zero already; and ``quota`` / n, a fixed number of entries, when it is
    not (a sigmoid cannot say 1, and an integer survives ``.half()``).
    """

    budget: "Budget | None"
    chosen: Remembered | None
    """The mask of the scores and the keep fraction as they were when it was last asked for."""
    product: Remembered | None
    """weight ⊙ mask, likewise."""
    watched: Remembered | None
    """A few entries that a frozen mask keeps, in which a change of the weight is seen."""
    scores: nn.Parameter | None
    logit: nn.Parameter | None
    quota: Tensor | None
    mask: Tensor | None

    def __init__(
        self,
        scores: Tensor,
        keep: float,
        *,
        learn: frozenset[str],
        keep_min: float,
        estimator: Estimator,
        keep_max: float = 1.0,
    ):
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} must lie in (0, 1]")
        self.keep_min, self.keep_max = keep_min, keep_max
        self.estimator = estimator
        self.held: Tensor | None = None
        self.all_gradients = False  # whether weights that are not kept have gradients, too
        self.chosen = self.product = self.watched = None
        self.budget = None
        self.site: str | None = None  # a group of channels has a name of its own
        self.resting: frozenset[str] = frozenset()
        self.scores = nn.Parameter(scores.detach().clone(), requires_grad="scores" in learn)
        self.register_parameter("logit", None)
        self.register_buffer("quota", None)
        self.register_buffer("mask", None)
        if "keeps" in learn:
            self.logit = nn.Parameter(scores.new_tensor(logit_of(keep, keep_min, keep_max)))
        else:
            self.quota = torch.tensor(_whole(keep, scores.numel()), device=scores.device)

    @property
    def frozen(self) -> bool:
        return self.mask is not None

    @property
    def size(self) -> int:
        """Entries the mask decides about."""
        return self._learned().numel() if self.mask is None else self.mask.numel()

    @property
    def most(self) -> int:
        """The most entries that it can keep."""
        return round(self.keep_max * self.size)

    @property
    def keep(self) -> Float[Tensor, ""]:
        """The fraction kept now; differentiable in ``logit`` while it is learned."""
        if self.mask is not None:
            return self.mask.count_nonzero() / self.size
        if self.quota is not None:
            return self.quota / self.size
        assert self.logit is not None
        return self.keep_min + (self.keep_max - self.keep_min) * torch.sigmoid(self.logit.float())

    @property
    def count(self) -> int:
        """The number of entries kept now."""
        return self._count(float(self.keep.detach()))

    def _count(self, keep: float) -> int:
        if self.mask is not None:
            return int(self.mask.count_nonzero())
        return _whole(keep, self.size) if self.quota is None else int(self.quota)

    def best(self, count: int) -> Bool[Tensor, "..."]:
        """The mask that would keep the ``count`` entries of largest |score|."""
        return top(self._learned(), count)

    def current(self) -> Bool[Tensor, "..."]:
        """The mask in force: the frozen one, the held one, or that of the scores as they are now, computed when they
        have changed."""
        return self._current() if self.mask is None else self.mask.bool()

    def _current(self) -> Tensor:
        """The same, always as the same tensor: what is remembered goes by it."""
        if self.mask is not None:
            return self.mask
        return self._choose() if self.held is None else self.held

    def _choose(self, count: int | None = None) -> Tensor:
        """The mask of the scores; with a ``count``, which a hold has found out, it is forgotten when the hold ends."""
        sources = [tensor for tensor in (self.scores, self.logit, self.quota) if tensor is not None]
        if self.chosen is None or not self.chosen.is_of(*sources):
            with torch.inference_mode(False), torch.no_grad():
                self.chosen = Remembered(self.best(count or self.count), sources, closely=count is None)
        return self.chosen.value

    def forget(self) -> None:
        """Compute mask and product anew when they are next asked for: what they follow from may be about to change."""
        if self.held is None:
            self.chosen = self.product = None

    def freeze(self, mask: Bool[Tensor, "..."]) -> None:
        """Keep exactly this mask from now on; scores and logit are gone."""
        self.mask = mask.to(torch.uint8)
        self.scores = self.logit = self.quota = self.held = self.chosen = self.product = self.watched = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.mask is not None and (torch.compiler.is_compiling() or _is_traced(weight)):
            return weight * self.mask
        masked: Any = self._masked
        return masked(weight)

    @torch.compiler.disable  # which entries are largest is found out in memory, where a compiler cannot follow
    def _masked(self, weight: Tensor) -> Tensor:
        mask = self._current()
        constant = self._constant(weight, mask)
        learns = [p is not None and p.requires_grad for p in (weight, self.scores, self.logit)]
        if not (any(learns) and torch.is_grad_enabled()):
            return constant
        keep = self.keep if learns[2] else None
        masked: Any = _MaskedWeight.apply(weight, self.scores, keep, mask, self, constant)
        return masked

    def _constant(self, weight: Tensor, mask: Tensor) -> Tensor:
        """weight ⊙ mask, computed by the first forward for all that come before either changes. It has no graph: each
        forward makes its own around it, so any number of them may be traversed, or none."""
        if not isinstance(weight, nn.Parameter):  # made for this pass, as the ones that stand for a group of channels
            with torch.inference_mode(False), torch.no_grad():
                return weight * mask
        if self.product is not None and not self.product.is_intact(closely=self.held is None):
            log.warning(
                "something wrote to a weight of shape %s that a mask computes, and that is lost: write to the weight under "
                "the mask, module.parametrizations.weight.original",
                tuple(weight.shape),
            )
            self.product = None
        if self.product is None or not self.product.is_of(mask, weight, closely=self.held is None):
            with torch.inference_mode(False), torch.no_grad():
                at = None if self.held is not None else self._watch(weight)  # a hold forgets the product when it ends
                self.product = Remembered(weight * mask, (mask, weight), at, closely=self.held is None)
        return self.product.value

    def _watch(self, weight: Tensor) -> Tensor | None:
        """Where a change of the weight matters. While a mask learns the weight rests, and any entry will do."""
        if self.mask is None:
            return None
        if self.watched is None or not self.watched.is_of(self.mask):
            self.watched = Remembered(where_true(self.mask, weight.shape), (self.mask,))
        return self.watched.value

    def _learned(self) -> Tensor:
        assert self.scores is not None, "a frozen mask has no scores"
        return self.scores

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        mask = state_dict.get(prefix + "mask")
        if mask is not None and self.scores is not None and mask.shape == self.scores.shape:
            # A frozen state arrives in a learning mask: become frozen, then load as usual.
            self.freeze(torch.zeros_like(self.scores, dtype=torch.bool))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy made inside hold_masks is not under that hold: it would never be released.
        return {**self.__dict__, "held": None, "chosen": None, "product": None, "watched": None}

    def extra_repr(self) -> str:
        return f"size={self.size}, keep={float(self.keep.detach()):.4g}, {'frozen' if self.frozen else 'learning'}"


def _is_traced(tensor: Tensor) -> bool:
    """Whether it stands for a tensor, under ``torch.func`` or ``torch.export``, and has no memory to look at."""
    return type(tensor) not in (Tensor, nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]


class _MaskedWeight(torch.autograd.Function):
    """weight ⊙ mask forward; dL/d|S| = dL/dM and dL/dkeep = estimator(dL/dM) backward, where M is the mask."""

    @staticmethod
    def forward(ctx, weight, scores, keep, mask, owner, constant):
        ctx.save_for_backward(None if scores is None else weight, scores, mask)
        ctx.owner = owner
        return constant.detach()

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        weight, scores, mask = ctx.saved_tensors
        ctx.owner.forget()  # a gradient came for what learns here, and a step will follow it
        grad_weight = grad if ctx.owner.all_gradients else grad * mask if ctx.needs_input_grad[0] else None
        grad_scores = grad_keep = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_mask = (grad * weight).sum_to_size(scores.shape)
            if ctx.needs_input_grad[1]:
                grad_scores = grad_mask * scores.sign()
            if ctx.needs_input_grad[2]:
                grad_keep = ctx.owner.estimator(grad_mask, scores, mask)
        return grad_weight, grad_scores, grad_keep, None, None, None


def logit_of(keep: float, keep_min: float, keep_max: float = 1.0) -> float:
    """The exact inverse of keep = keep_min + (keep_max − keep_min) · sigmoid(logit)."""
    if not keep_min < keep < keep_max:
        raise ValueError(f"a learned keep fraction must start inside ({keep_min:g}, {keep_max:g}), got keep={keep:g}")
    return math.log((keep - keep_min) / (keep_max - keep))


def _whole(keep: float, size: int) -> int:
    return min(max(round(keep * size), 1), size)


def masks(model: nn.Module) -> dict[str, Mask]:
    """Every mask in the model, by the name its weight has in the unmasked network, e.g. ``"layer1.0.conv1.weight"``.

    A mask on channels goes by the name of its group, the module that writes them first: ``"layer1.0.conv1"``.
    """
    return {
        mask.site or (f"{prefix}.{tensor_name}" if prefix else tensor_name): mask
        for prefix, module in model.named_modules()
        for tensor_name, chain in parametrizations(module).items()
        for mask in chain.modules()
        if isinstance(mask, Mask)
    }


def parametrizations(module: nn.Module) -> dict[str, ParametrizationList]:
    """The parametrizations on a module, masks among them, by the name of the tensor each computes."""
    chains = next((child for name, child in module.named_children() if name == "parametrizations"), None)
    if not isinstance(chains, nn.ModuleDict):
        return {}
    return {name: chain for name, chain in chains.items() if isinstance(chain, ParametrizationList)}


@contextmanager
def hold_masks(model: nn.Module) -> Iterator[None]:
    """Keep every mask as it is for all forwards inside the ``with``, whatever happens to the scores.

    Nothing is looked at inside, which saves a GPU from being waited for; the masks are right, and computed once per step,
    without it. Nested holds keep the outermost masks. The optimiser steps outside, or the masks of the next step would
    be stale.
    """
    fresh = [mask for mask in masks(model).values() if mask.held is None]
    learning = [mask for mask in fresh if not mask.frozen]
    if learning:
        with torch.no_grad():  # one transfer for all layers, not one each
            keeps = torch.stack([mask.keep for mask in learning]).tolist()
        for mask, keep in zip(learning, keeps, strict=True):
            mask.held = mask._choose(mask._count(keep))
    for mask in fresh:
        mask.held = mask._current()
    try:
        yield
    finally:
        for mask in fresh:
            mask.held = mask.chosen = mask.product = None
