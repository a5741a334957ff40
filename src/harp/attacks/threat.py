"""What the adversary may do: move an image inside a norm ball and inside [0, 1]."""

from dataclasses import dataclass
from numbers import Real
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from harp.recipes import threat_words

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Threat:
    """All x' in [0, 1] with ‖x' − x‖ ≤ eps; eps is on the [0, 1] scale of the images, e.g. ``8 / 255``."""

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"norm={self.norm!r} is not known; choose 'linf' or 'l2'")
        number = isinstance(self.eps, Real) and not isinstance(self.eps, bool)
        if self.norm == "linf" and not (number and 0.0 <= self.eps <= 1.0):
            raise ValueError(f"eps={self.eps!r} must lie in [0, 1] for norm 'linf'; on that scale write 8 / 255, not 8")
        if self.norm == "l2" and not (number and 0.0 <= self.eps < float("inf")):
            raise ValueError(f"eps={self.eps!r} must be finite and not negative for norm 'l2', e.g. 0.5 or 128 / 255")

    def __str__(self) -> str:
        return threat_words(self.norm, self.eps)

    def start(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """A uniform random point of the ball around x, clipped to [0, 1] (drawn from torch's global generator)."""
        if self.norm == "linf":
            return self.project(x + torch.empty_like(x).uniform_(-self.eps, self.eps), x)
        direction = unit_l2(torch.randn_like(x))
        # A radius of u^(1/d) makes the point uniform in the volume of the d-dimensional ball.
        radius = torch.rand(len(x), device=x.device, dtype=x.dtype) ** (1 / x[0].numel())
        return self.project(x + self.eps * direction * _per_image(radius, x), x)

    def steepest(self, gradient: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The direction of unit norm that climbs fastest: the sign for l∞, the normalised gradient for l2."""
        return gradient.sign() if self.norm == "linf" else unit_l2(gradient)

    def project(self, x_adv: Float[Tensor, "batch ..."], x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The point inside the ball around x and inside [0, 1] that is nearest to x_adv (l2: on its line to x).

        The ball is drawn smaller by what rounding can add (6e-8 for l∞), so that no result is outside, to the last bit.
        """
        unit = torch.finfo(x.dtype).eps / 2  # bounds the rounding of eps and of the result together: both lie below 1
        if self.norm == "linf":
            room = max(self.eps - unit, 0.0)
            return x_adv.clamp(x - room, x + room).clamp(0.0, 1.0)
        delta = x_adv - x
        # For l2 every pixel is rounded, and so is the length.
        room = max(self.eps * (1 - 100 * unit) - unit * x[0].numel() ** 0.5, 0.0)
        length = delta.square().flatten(1).sum(1).sqrt()
        scale = (room / length.clamp_min(1e-30)).clamp_max(1.0)
        return (x + delta * _per_image(scale, x)).clamp(0.0, 1.0)


def unit_l2(x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Each image divided by its Euclidean norm, however small; a zero image stays zero."""
    largest = x.flatten(1).abs().amax(1).clamp_min(torch.finfo(x.dtype).tiny)
    x = x / _per_image(largest, x)
    return x / _per_image(x.flatten(1).norm(dim=1).clamp_min(1e-12), x)


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 1))
