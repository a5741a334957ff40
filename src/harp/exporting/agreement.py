"""Whether a written network answers as its model does: nothing is left on disk that was not compared."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 32
"""Images in one pass; the batch given may be larger than what fits into memory."""


@dataclass(frozen=True)
class Agreement:
    """How far logits are from the model's on some images: relative to the largest logit, and in chosen classes."""

    images: int
    difference: float
    changed: int
    by: str
    """What ran the file."""

    def __str__(self) -> str:
        off = f"in {self.by} logits are off by at most {self.difference:.2g} of the largest"
        return f"{off}, and {self.changed} of {self.images} images get another class"


def answers(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a network says to a batch of any size, on the CPU and without gradients.

    Raises ValueError when that is not one tensor.
    """
    with torch.no_grad():
        parts = [network(part) for part in images.split(_AT_ONCE)]
    if not isinstance(parts[0], Tensor):
        raise ValueError(f"{type(network).__name__} returns a {type(parts[0]).__name__}: expected one tensor of logits")
    return torch.cat([part.cpu() for part in parts])


def compare(found: Tensor, expected: Tensor, *, by: str) -> Agreement:
    """Raises ValueError when the model's own answers are not finite."""
    if not expected.isfinite().all():
        raise ValueError("the model's logits are not finite on the example: it is damaged, or the example is no image")
    largest, off = float(expected.abs().max()), float((found - expected).abs().max())
    changed = int((found.argmax(1) != expected.argmax(1)).sum())
    return Agreement(len(expected), off / largest if off else 0.0, changed, by)


def need_agreement(found: Agreement, tolerance: float, values: str) -> None:
    """Raise ValueError saying by how much it is exceeded when the difference is above ``tolerance``, or no number."""
    if not found.difference <= tolerance:
        raise ValueError(
            f"with values={values!r} {found}, and tolerance={tolerance:g} allows less; nothing was written. "
            + ("Export values='f32', or allow more" if values != "f32" else "Allow more with tolerance=…")
        )
