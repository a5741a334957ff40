"""Descend by the gradient taken at the worst point nearby: S2AP (Piras, Zhao et al. 2025) on scores, AWP (Wu et al. 2020)
on weights.

Both ascend by z = radius · ‖p‖ · g / ‖g‖, for every tensor p that they move and its gradient g; take the gradient at p + z;
put p back; and descend from p by it. They differ in what they move.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harp.pruning.mask import Mask, hold_masks, masks, parametrizations

Moved = Callable[[nn.Module], dict[nn.Parameter, Tensor]]
"""What is moved, each parameter with the value whose norm its move is relative to."""


@dataclass(frozen=True)
class Sharpness:
    """``radius`` is the length of a move relative to what is moved; nothing moves in the first ``warmup`` epochs."""

    radius: float
    moved: Moved
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius={self.radius} must be positive and finite; S2AP and AWP use about 0.01")


def learned_scores(model: nn.Module) -> dict[nn.Parameter, Tensor]:
    """What S2AP moves: every score tensor that learns."""
    scores = [mask.scores for mask in masks(model).values() if mask.scores is not None]
    return {each: each.detach() for each in scores if each.requires_grad}


def learned_weights(model: nn.Module) -> dict[nn.Parameter, Tensor]:
    """What AWP moves: every learned weight of at least two dimensions, but no scores. Under a mask what is kept counts."""
    chains = [chain for module in model.modules() for chain in parametrizations(module).values()]
    with torch.no_grad(), hold_masks(model):
        masked = {chain.original: chain() for chain in chains if isinstance(chain[0], Mask)}
    scores = {mask.scores for mask in masks(model).values()}
    found = [p for p in model.parameters() if p.requires_grad and p.dim() > 1 and p not in scores]
    return {parameter: masked.get(parameter, parameter).detach() for parameter in found}


def ascent(value: Float[Tensor, "..."], gradient: Float[Tensor, "..."] | None, radius: float) -> Float[Tensor, "..."]:
    """radius · ‖value‖ · g / ‖g‖: nothing where g is missing, zero, or not finite (an overflow of mixed precision)."""
    if gradient is None or gradient.numel() == 0:
        return torch.zeros_like(value)
    largest = gradient.abs().max()
    # Of size 1 before the norm is taken: the squares of a scaled loss would overflow.
    unit = gradient / largest
    move = radius * value.norm() / unit.norm() * unit
    return torch.where(largest.isfinite() & (largest > 0), move, 0.0)


@contextmanager
def restored(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Whatever happens inside, these parameters and all buffers of the model are the same afterwards, bit for bit.

    From copies: to subtract what was added would round. Masks are buffers that nothing moves, so none is copied.
    """
    values = [(parameter, parameter.detach().clone()) for parameter in parameters]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not isinstance(module, Mask)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in values:
                parameter.copy_(value)
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)  # a module may have put another tensor there


@contextmanager
def perturbed(model: nn.Module, sharpness: Sharpness) -> Iterator[None]:
    """Inside, what is moved stands at p + z, by the gradients that there are on entering; afterwards at p again.

    Batch-norm statistics count the forward pass at p alone. The masks follow the scores: hold them again inside
    (``with perturbed(model, s), hold_masks(model)``), and not around it, where they would stay those at p.
    """
    moved = sharpness.moved(model)
    with restored(model, moved):
        with torch.no_grad():
            moves = [ascent(value, parameter.grad, sharpness.radius) for parameter, value in moved.items()]
            for parameter, move in zip(moved, moves, strict=True):
                parameter.add_(move)
        yield
