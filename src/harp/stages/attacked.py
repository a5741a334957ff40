"""What the attacks of a stage run on while it learns: decided at its first step, and kept when it goes on later."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harp.evaluation import Ranks
from harp.exporting import Mirror
from harp.recipes import Training
from harp.runtime.torch import SparseModule
from harp.stages.choosing import Choice
from harp.stages.compiled import Compiled
from harp.stages.engine import choose_engine, make_engine
from harp.training.build import attack_gradients


def attacked_in(
    stage: str,
    settings: Training,
    wanted: str,
    ranks: Ranks,
    tell: Callable[[str], None],
    *,
    compiled: bool = False,
) -> "Attacked | Compiled | None":
    """What attacks of a stage run on, where there is a choice: not on a dense network, nor without an attack."""
    if compiled and attack_gradients(settings) is not None:
        return Compiled()
    if wanted == "torch" or stage == "pretrain":
        return None
    steps = attack_gradients(settings)
    if steps is None:
        tell(f"objective {settings.objective!r} makes no attack that the sparse engine could run")
        return None
    return Attacked(wanted, steps, ranks, tell)


class Attacked(Choice[Mirror]):
    """Called with the model and a batch, it gives the module to attack: the model, or the engine with its weights of now.

    ``wanted`` is torch, sparse or auto. ``steps`` is how many gradients an attack takes before the weights change.
    """

    def __init__(self, wanted: str, steps: int, ranks: Ranks, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._wanted, self._steps, self._ranks, self._tell = wanted, steps, ranks, tell
        self._made: Mirror | None = None

    def look_at(self, model: nn.Module, images: Tensor) -> None:
        """Before a stage begins: whether the engine could be chosen at all; ``images`` are a batch of any length. Raises
        ValueError naming what it lacks where it was asked for; "auto" tells that, and is decided."""
        with torch.random.fork_rng(devices=[]):
            self._made = make_engine(self._wanted, model, images, ranks=self._ranks, tell=self._tell)
        if self._made is None:
            self._wanted = "torch"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        self.decide(self._wanted, lambda wanted: self._choose(wanted, model, x, y))
        return self.engine() or model

    def _choose(self, wanted: str, model: nn.Module, x: Tensor, y: Tensor) -> Mirror | None:
        made, self._made = self._made, None
        return choose_engine(wanted, model, (x, y), steps=self._steps, ranks=self._ranks, tell=self._tell, made=made)

    def engine(self) -> SparseModule | None:
        """The engine with the weights of now; None before the first step, and where attacks run in torch."""
        return None if self.found is None else self.found.module()
