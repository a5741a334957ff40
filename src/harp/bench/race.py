"""Several engines, and several networks of one shape, in one interleaved race."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from harp.bench.agreement import check_agreement
from harp.bench.engines import ENGINES, Subject
from harp.bench.timing import Times, interleave

SEED = 0
"""Of the images: uniform in [0, 1]."""


@dataclass(frozen=True)
class Entrant:
    """An engine with a network to run."""

    engine: str
    subject: Subject


@dataclass(frozen=True)
class Race:
    """What is asked of each: images of this shape, this many at once, with so many threads, for so long."""

    image: tuple[int, ...]
    batch: int
    threads: int
    seconds: float = 2.0
    rounds: int = 10


def race(entrants: Mapping[str, Entrant], settings: Race) -> dict[str, Times]:
    """Load all, compare their outputs with PyTorch's on the same weights, then time them in turns.

    Raises ValueError naming the engine whose result is wrong; nothing is timed then.
    """
    x = np.random.default_rng(SEED).random((settings.batch, *settings.image), dtype=np.float32)
    runs = {
        label: ENGINES[entrant.engine].open(entrant.subject, settings.batch, settings.threads)
        for label, entrant in entrants.items()
    }
    for subject in dict.fromkeys(entrant.subject for entrant in entrants.values()):
        expected = ENGINES["torch"].open(subject, settings.batch, settings.threads)(x)
        check_agreement({label: runs[label](x) for label, e in entrants.items() if e.subject == subject}, expected)
    calls = {label: partial(run, x) for label, run in runs.items()}
    return interleave(calls, seconds=settings.seconds, rounds=settings.rounds)


def thread_counts(wanted: Sequence[int | Literal["all"]]) -> list[int]:
    """Thread counts in numbers, each once. Raises ValueError for counts that this machine does not have."""
    cores = usable_cores()
    counts = list(dict.fromkeys(cores if count == "all" else count for count in wanted))
    if not counts or not all(1 <= count <= cores for count in counts):
        raise ValueError(f"threads={list(wanted)} must be between 1 and the {cores} cores of this machine, or 'all'")
    return counts


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy() -> str | None:
    """A sentence when other programs take part of the machine; times are not to be believed then."""
    if not hasattr(os, "getloadavg"):
        return None
    load = os.getloadavg()[0]
    if load < 0.5:
        return None
    return f"the machine was busy before: a load of {load:.1f} on {usable_cores()} cores; times are not to be believed"
