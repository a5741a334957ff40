"""What attacks, and the step of the weights, run on, as the loop sees it: a choice with a state to go on from."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


class Kept(Protocol):
    """A choice with a name, and a state to go on from."""

    @property
    def name(self) -> str: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Attacked(Kept, Protocol):
    """Gives the module to attack for a model and a batch."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> nn.Module: ...


@runtime_checkable
class WeightStep(Kept, Protocol):
    """The loss and its gradients are computed inside of it."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> AbstractContextManager[None]: ...


def computed_by(
    step: WeightStep, loss: Callable[[], Tensor], model: nn.Module, x: Tensor, y: Tensor
) -> Callable[[], Tensor]:
    """The loss on a batch, taken where the choice says."""

    def inside() -> Tensor:
        with step(model, x, y):
            return loss()

    return inside
