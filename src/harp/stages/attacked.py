"""What the attacks of a stage run on while it learns: decided at its first step, and kept when it goes on later."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harp.evaluation import Ranks
from harp.exporting import Mirror
from harp.recipes import Training
from harp.runtime.torch import SparseModule
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


class Attacked:
    """Called with the model and a batch, it gives the module to attack: the model, or the engine with its weights of now.

    ``wanted`` is torch, sparse or auto. ``steps`` is how many gradients an attack takes before the weights change. The
    choice is part of the state of the stage.
    """

    def __init__(self, wanted: str, steps: int, ranks: Ranks, tell: Callable[[str], None]) -> None:
        self._wanted, self._steps, self._ranks, self._tell = wanted, steps, ranks, tell
        self._begun: str | None = None
        self._made: Mirror | None = None
        self._mirror: Mirror | None = None
        self._decided = False

    def look_at(self, model: nn.Module, images: Tensor) -> None:
        """Before a stage begins: whether the engine could be chosen at all; ``images`` are a batch of any length. Raises
        ValueError naming what it lacks where it was asked for; "auto" tells that, and is decided."""
        with torch.random.fork_rng(devices=[]):
            self._made = make_engine(self._wanted, model, images, ranks=self._ranks, tell=self._tell)
        if self._made is None:
            self._wanted = "torch"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        if not self._decided:
            # A step gives the same bits whether it is the one that decides or not.
            with torch.random.fork_rng(devices=[]):
                self._mirror = choose_engine(
                    *(self._begun or self._wanted, model, (x, y)),
                    steps=self._steps,
                    ranks=self._ranks,
                    tell=self._tell,
                    made=self._made,
                )
                self._made = None
            self._decided = True
        return self.engine() or model

    def engine(self) -> SparseModule | None:
        """The engine with the weights of now; None before the first step, and where attacks run in torch."""
        return None if self._mirror is None else self._mirror.module()

    @property
    def name(self) -> str:
        return "torch" if self._mirror is None else "sparse"

    def state_dict(self) -> dict[str, str | None]:
        return {"engine": self.name if self._decided else self._begun}

    def load_state_dict(self, state: dict[str, str | None]) -> None:
        self._begun = state["engine"]
