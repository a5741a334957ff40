"""A choice between torch and the sparse engine: timed in turns, told once, and kept in the state of a stage."""

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

log = logging.getLogger(__name__)
Engine = TypeVar("Engine")

ROUNDS = 3
"""Turns that are timed, after one that is not; the quickest of each counts."""


def quickest(contest: Sequence[Callable[[], float]], clear: float) -> list[float]:
    """The least seconds of each, in turns. Where one is ``clear`` times faster than another, there is no further turn."""
    best = [float("inf")] * len(contest)
    for step in contest:
        step()
    for _ in range(ROUNDS):
        best = [min(known, step()) for known, step in zip(best, contest, strict=True)]
        if max(best) > clear * min(best):
            break
    return best


def told(engine: Engine | None, what: str, tell: Callable[[str], None]) -> Engine | None:
    log.info(what)
    tell(what)
    return engine


class Choice(Generic[Engine]):
    """What was chosen at the first step of a stage, None for torch. It is part of the state: a stage goes on with it."""

    def __init__(self) -> None:
        self.found: Engine | None = None
        self._begun: str | None = None
        self._decided = False

    def decide(self, wanted: str, choose: Callable[[str], Engine | None]) -> Engine | None:
        """The engine chosen before, or now, by ``choose`` of what is wanted or of what the stage began with."""
        if not self._decided:
            # A step gives the same bits whether it is the one that decides or not.
            with torch.random.fork_rng(devices=[]):
                self.found = choose(self._begun or wanted)
            self._decided = True
        return self.found

    @property
    def name(self) -> str:
        return "torch" if self.found is None else "sparse"

    def state_dict(self) -> dict[str, str | None]:
        return {"engine": self.name if self._decided else self._begun}

    def load_state_dict(self, state: dict[str, str | None]) -> None:
        self._begun = state["engine"]
