"""What the adversary may do: move an image inside a norm ball and inside [0, 1]."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Threat:
    """All x' in [0, 1] with ‖x' − x‖ ≤ eps; eps is on the [0, 1] scale of the images, e.g. ``8 / 255``."""

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"norm={self.norm!r} is not known; choose 'linf' or 'l2'")
        most = 1.0 if self.norm == "linf" else float("inf")
        if not 0.0 <= self.eps <= most:
            raise ValueError(
                f"eps={self.eps!r} must lie in [0, {most:g}] for norm {self.norm!r}; images live in [0, 1], so write 8 / 255, not 8"
            )

    def __str__(self) -> str:
        on_pixels = self.eps * 255
        return f"{self.norm} {on_pixels:.4g}/255" if self.norm == "linf" else f"{self.norm} {self.eps:g}"

    def start(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """A uniform random point of the ball around x (drawn from torch's global generator)."""
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
        """The nearest point to x_adv inside the ball around x and inside [0, 1], in floating point as on paper."""
        if self.norm == "linf":
            return torch.clamp(x_adv, min=_lowest(x, self.eps), max=_highest(x, self.eps))
        delta = x_adv - x
        length = delta.flatten(1).norm(dim=1)
        # Shrinking a hair further than needed keeps the rounded sum inside; clamping afterwards only shortens it.
        scale = torch.clamp(self.eps * (1 - 1e-6) / length.clamp_min(1e-30), max=1.0)
        return torch.where(_per_image(length <= self.eps, x), x_adv, x + delta * _per_image(scale, x)).clamp(0.0, 1.0)


def _lowest(x: Tensor, eps: float) -> Tensor:
    """max(0, x − eps), moved up one float where rounding would let x − result exceed eps."""
    edge = (x - eps).clamp_min(0.0)
    return torch.where(x.double() - edge.double() > eps, torch.nextafter(edge, x), edge)


def _highest(x: Tensor, eps: float) -> Tensor:
    edge = (x + eps).clamp_max(1.0)
    return torch.where(edge.double() - x.double() > eps, torch.nextafter(edge, x), edge)


def unit_l2(x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Each image divided by its Euclidean norm; a zero image stays zero."""
    return x / _per_image(x.flatten(1).norm(dim=1).clamp_min(1e-12), x)


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 1))
