"""Processes that share one evaluation: each takes every ``world``-th batch, and all know what all have found."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Bool
from torch import Tensor

from harp.evaluation.stopping import Stopped

Found = TypeVar("Found")


@dataclass(frozen=True)
class Ranks:
    """This process among those that work in step. One that works alone asks nobody."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where tensors have to lie to be exchanged."""

    def all_of(self, flags: Bool[Tensor, " images"]) -> Bool[Tensor, " images"]:
        """True where every rank says so."""
        if self.world == 1:
            return flags
        votes = flags.to(self.device, torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MIN)
        return votes.bool().cpu()

    def largest_of(self, numbers: Tensor) -> Tensor:
        """The largest number that any rank has, place by place."""
        if self.world == 1:
            return numbers
        shared = numbers.to(self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.cpu()

    def any_of(self, asked: bool) -> bool:
        """Whether any rank says so."""
        return not bool(self.all_of(torch.tensor([not asked])))

    def unless_stopped(self, work: Callable[[], Found]) -> Found:
        """What the work of this rank returns. Where that of any rank is `Stopped`, all raise KeyboardInterrupt."""
        if self.world == 1:
            return work()
        done: list[Found] = []
        with suppress(Stopped):
            done.append(work())
        if self.any_of(not done):
            raise Stopped("stopped in an evaluation")
        return done[0]

    def union(self, notes: list[Found]) -> list[Found]:
        """The notes of all ranks, each once, in the order of the ranks."""
        if self.world == 1:
            return notes
        everyone: list[list[Found]] = [[] for _ in range(self.world)]
        dist.all_gather_object(everyone, notes)
        return list(dict.fromkeys(note for theirs in everyone for note in theirs))

    def from_first(self, make: Callable[[], Found]) -> Found:
        """What the first rank makes, for all: only it need see the files. A ValueError it meets, all of them raise."""
        if self.world == 1:
            return make()
        sent: list[tuple[Found | None, str | None]] = [(None, None)]
        if self.rank == 0:
            try:
                sent = [(make(), None)]
            except ValueError as error:
                sent = [(None, str(error))]
        dist.broadcast_object_list(sent, src=0)
        ((found, wrong),) = sent
        if wrong is not None:
            raise ValueError(wrong)
        return found  # type: ignore[return-value]


ALONE = Ranks()
