"""An attack of the user's, and the ball that it promises to stay in."""

from dataclasses import dataclass
from types import FunctionType

from jaxtyping import Bool, Float
from torch import Tensor, nn

from harp.attacks.pgd import Attack, check_attack
from harp.attacks.threat import Threat

_ROUNDING = 1e-5
"""How far a distance may exceed eps and an image [0, 1] by rounding, relative to a pixel's range."""


@dataclass(frozen=True)
class Bounded:
    """Any attack inside a threat: an evaluation brings its images back inside, says if it had to, and records norm and eps."""

    attack: Attack
    threat: Threat

    def __post_init__(self) -> None:
        check_attack(self.attack)

    @property
    def name(self) -> str:
        return self.attack.__name__ if isinstance(self.attack, FunctionType) else type(self.attack).__name__

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What the attack itself returns."""
        return self.attack(model, x, y)


def bounded(attack: Attack, threat: Threat) -> Bounded:
    """An attack of your own, held to a threat when it is evaluated."""
    return Bounded(attack, threat)


def outside(x_adv: Float[Tensor, "batch ..."], x: Float[Tensor, "batch ..."], threat: Threat) -> Bool[Tensor, " batch"]:
    """Which images are not inside the threat, by more than rounding, or not finite."""
    delta = (x_adv - x).flatten(1)
    distance = delta.abs().amax(1) if threat.norm == "linf" else delta.norm(dim=1)
    beyond = (x_adv - x_adv.clamp(0.0, 1.0)).flatten(1).abs().amax(1)
    return ~((distance <= threat.eps * (1 + _ROUNDING) + _ROUNDING) & (beyond <= _ROUNDING))
