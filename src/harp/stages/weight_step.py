"""What computes the step of the weights that a stage learns: decided at its first step, and kept when it goes on later."""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.evaluation import Ranks
from harp.exporting import Learner
from harp.recipes import Pruning, Training

log = logging.getLogger(__name__)

ROUNDS = 3
"""Steps of each that are timed, after one that is not; the quickest counts."""
_CLEAR = 1.5
"""Where one is so many times faster in the first round, there is no second."""


def weight_step_in(
    stage: str, settings: Training, wanted: str, ranks: Ranks, tell: Callable[[str], None]
) -> "WeightStep | None":
    """The choice of a stage, where there is one: not on a dense network, and not while masks learn, which want the gradient
    of every entry, removed or not."""
    if wanted == "torch" or stage == "pretrain" or isinstance(settings, Pruning):
        return None
    return WeightStep(wanted, ranks, tell)


class WeightStep:
    """``with step(model, x, y):`` forward passes in train mode, and their ways back, run on what was chosen.

    ``wanted`` is torch, sparse or auto. The choice is part of the state of the stage.
    """

    def __init__(self, wanted: str, ranks: Ranks, tell: Callable[[str], None]) -> None:
        self._wanted, self._ranks, self._tell = wanted, ranks, tell
        self._begun: str | None = None
        self._learner: Learner | None = None
        self._decided = False

    @contextmanager
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[None]:
        if not self._decided:
            # A step gives the same bits whether it is the one that decides or not.
            with torch.random.fork_rng(devices=[]):
                self._learner = self._choose(model, x, y)
            self._decided = True
        with nullcontext() if self._learner is None else self._learner():
            yield

    def _choose(self, model: nn.Module, x: Tensor, y: Tensor) -> Learner | None:
        wanted = self._begun or self._wanted
        if wanted == "torch":
            return None
        try:
            learner = Learner(model, threads=torch.get_num_threads())
            refused = "it is not computed in 32 bits" if torch.is_autocast_enabled(x.device.type) else None
        except (RuntimeError, ValueError) as error:  # no compiled engine, or nothing that it could compute
            learner, refused = None, str(error)
        if learner is None or refused:
            return self._told(None, f"weights learn in torch: {refused}")
        layers = f"{len(learner.layers)} layers of weights"
        if wanted == "sparse":
            return self._told(learner, f"{layers} learn on the sparse engine")
        torch_s, engine_s = self._ranks.from_first(lambda: race(model, x, y))
        took = f"forward and back on {len(x)} images takes {engine_s:.2g} s there, {torch_s:.2g} s in torch"
        if engine_s < torch_s:
            return self._told(learner, f"{layers} learn on the sparse engine: {took}")
        return self._told(None, f"weights learn in torch, not on the sparse engine: {took}")

    def _told(self, learner: Learner | None, what: str) -> Learner | None:
        log.info(what)
        self._tell(what)
        return learner

    @property
    def name(self) -> str:
        return "torch" if self._learner is None else "sparse"

    def state_dict(self) -> dict[str, str | None]:
        return {"engine": self.name if self._decided else self._begun}

    def load_state_dict(self, state: dict[str, str | None]) -> None:
        self._begun = state["engine"]


def race(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Seconds that torch and the engine take for one pass in train mode, forward and back to the weights, in turns.

    It is run by a copy: statistics of batch norms, gradients and masks of the model stay as they are.
    """
    model = copy.deepcopy(model).train()
    learner = Learner(model, threads=torch.get_num_threads())
    contest = [nullcontext, learner]
    best = [float("inf"), float("inf")]
    for number in range(ROUNDS + 1):
        for place, context in enumerate(contest):
            began = time.perf_counter()
            with context(), torch.enable_grad():
                loss = F.cross_entropy(model(x.detach()), y)
            model.zero_grad()
            loss.backward()
            if number:
                best[place] = min(best[place], time.perf_counter() - began)
        if number and max(best) > _CLEAR * min(best):
            break
    return best[0], best[1]
