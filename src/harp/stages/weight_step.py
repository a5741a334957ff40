"""What computes the step of the weights that a stage learns: decided at its first step, and kept when it goes on later."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.evaluation import Ranks
from harp.exporting import Learner
from harp.recipes import Pruning, Training
from harp.stages.choosing import Choice, quickest, told

_CLEAR = 1.5
"""How many times faster is sure to be faster."""


def weight_step_in(
    stage: str, settings: Training, wanted: str, ranks: Ranks, tell: Callable[[str], None]
) -> "WeightStep | None":
    """The choice of a stage, where there is one: not on a dense network, and not while masks learn, which want the gradient
    of every entry, removed or not."""
    if wanted == "torch" or stage == "pretrain" or isinstance(settings, Pruning):
        return None
    return WeightStep(wanted, ranks, tell)


class WeightStep(Choice[Learner]):
    """``with step(model, x, y):`` forward passes in train mode, and their ways back, run on what was chosen.

    ``wanted`` is torch, sparse or auto.
    """

    def __init__(self, wanted: str, ranks: Ranks, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._wanted, self._ranks, self._tell = wanted, ranks, tell

    @contextmanager
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[None]:
        learner = self.decide(self._wanted, lambda wanted: self._choose(wanted, model, x, y))
        with nullcontext() if learner is None else learner():
            yield

    def _choose(self, wanted: str, model: nn.Module, x: Tensor, y: Tensor) -> Learner | None:
        if wanted == "torch":
            return None
        try:
            learner = Learner(model, threads=torch.get_num_threads())
            refused = "it is not computed in 32 bits" if torch.is_autocast_enabled(x.device.type) else None
        except (RuntimeError, ValueError) as error:  # no compiled engine, or nothing that it could compute
            learner, refused = None, str(error)
        if learner is None or refused:
            return told(None, f"weights learn in torch: {refused}", self._tell)
        layers = f"{len(learner.layers)} layers of weights"
        if wanted == "sparse":
            return told(learner, f"{layers} learn on the sparse engine", self._tell)
        torch_s, engine_s = self._ranks.from_first(lambda: race(model, x, y))
        took = f"forward and back on {len(x)} images takes {engine_s:.2g} s there, {torch_s:.2g} s in torch"
        if engine_s < torch_s:
            return told(learner, f"{layers} learn on the sparse engine: {took}", self._tell)
        return told(None, f"weights learn in torch, not on the sparse engine: {took}", self._tell)


def race(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Seconds that torch and the engine take for one pass in train mode, forward and back to the weights, in turns.

    It is run by a copy: statistics of batch norms, gradients and masks of the model stay as they are.
    """
    model = copy.deepcopy(model).train()
    learner = Learner(model, threads=torch.get_num_threads())
    torch_s, engine_s = quickest([partial(_pass, on, model, x, y) for on in (nullcontext, learner)], _CLEAR)
    return torch_s, engine_s


def _pass(on: Callable[[], AbstractContextManager[None]], model: nn.Module, x: Tensor, y: Tensor) -> float:
    began = time.perf_counter()
    with on(), torch.enable_grad():
        loss = F.cross_entropy(model(x.detach()), y)
    model.zero_grad()
    loss.backward()
    return time.perf_counter() - began
