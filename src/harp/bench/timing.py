"""Several engines timed side by side: in turns, so that what disturbs the machine disturbs all of them alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SETTLE_S = 0.005
"""Before each turn: the threads of the last engine may still spin, waiting for more work."""
LONG_CALL_S = 0.05
"""A call of this length pays for caches that another engine filled without anybody noticing."""
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Times:
    """What calls of one engine took, in milliseconds: the median, the best, and the quartiles around the median."""

    median_ms: float
    best_ms: float
    low_ms: float
    high_ms: float
    calls: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Times":
        """Raises ValueError when there is nothing to summarise."""
        if not seconds:
            raise ValueError("seconds is empty, expected the time of at least one call")
        low, median, high = (
            statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (seconds[0],) * 3
        )
        return cls(1e3 * median, 1e3 * min(seconds), 1e3 * low, 1e3 * high, len(seconds))


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    rounds: int = 10,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Times]:
    """Time each call in turns A B C A B C …, about ``seconds`` each in all.

    A turn settles, makes one call that is not counted, and then as many as fit into its slice, at least one. Calls of
    more than 50 ms are counted at once. When the time of all is spent, it ends early, after three rounds at least.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds={seconds} must be above 0: the time to spend on each engine")
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1")
    taken: dict[str, list[float]] = {name: [] for name in calls}
    longest = {name: _warm(call, clock) for name, call in calls.items()}
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and sum(map(sum, taken.values())) > seconds * len(calls):
            break
        for name, call in calls.items():
            sleep(SETTLE_S)
            if longest[name] < LONG_CALL_S:
                call()
            taken[name] += _turn(call, seconds / rounds, clock)
    return {name: Times.of(all_s) for name, all_s in taken.items()}


def _warm(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Two calls that are not counted (allocation, tuning, compilation); the time of the second."""
    call()
    began = clock()
    call()
    return clock() - began


def _turn(call: Callable[[], object], slice_s: float, clock: Callable[[], float]) -> list[float]:
    taken: list[float] = []
    before = began = clock()
    while not taken or before - began < slice_s:
        call()
        now = clock()
        taken.append(now - before)
        before = now
    return taken
