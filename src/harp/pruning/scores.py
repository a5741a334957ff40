"""Where importance starts. All functions here share one signature: ``(weight) -> scores``; larger |score| stays."""

from jaxtyping import Float
from torch import Tensor, randn_like, zeros_like


def magnitude(weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """|θ|, the oldest criterion (Han et al. 2015)."""
    return weight.abs()


def scaled_magnitude(weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """θ · sqrt(6 / fan_in) / max|θ|: the order of magnitude, the range of a fresh layer (HYDRA, Sehwag et al. 2020)."""
    largest = weight.abs().max()
    if largest == 0:
        return zeros_like(weight)
    fan_in = weight[0].numel()
    return weight / largest * (6 / fan_in) ** 0.5


def random(weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Standard normal noise from torch's global generator: the control that knows nothing."""
    return randn_like(weight)
