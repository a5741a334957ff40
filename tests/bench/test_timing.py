"""Engines take turns, and what a turn counts is what calls took."""

import itertools

import pytest

from harp.bench.timing import Times, interleave


class Clock:
    """Time passes only while a call runs or somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.log += "."
        self.now += seconds

    def engine(self, name: str, *takes: float):
        durations = itertools.cycle(takes)

        def call() -> None:
            self.log += name
            self.now += next(durations)

        return call


def timed(clock: Clock, engines, **how) -> dict[str, Times]:
    return interleave(engines, clock=clock, sleep=clock.sleep, **how)


def test_engines_are_warmed_up_and_then_take_turns():
    clock = Clock()
    timed(clock, {"a": clock.engine("a", 0.06), "b": clock.engine("b", 0.07)}, seconds=1e-6, rounds=3)
    assert clock.log == "aabb" + ".a.b" * 3


def test_a_turn_of_short_calls_begins_with_one_that_is_not_counted():
    clock = Clock()
    found = timed(clock, {"a": clock.engine("a", 1 / 64)}, seconds=6 / 64, rounds=2)
    assert clock.log == "aa" + ".aaaa" * 2
    assert found["a"].calls == 6


def test_a_slower_engine_is_called_less_often_and_gets_no_more_time():
    clock = Clock()
    found = timed(clock, {"a": clock.engine("a", 0.001), "b": clock.engine("b", 0.02)}, seconds=1.0, rounds=10)
    assert found["a"].calls == pytest.approx(1000, rel=0.15)
    assert found["b"].calls == pytest.approx(50, rel=0.15)


def test_the_race_ends_early_when_slow_calls_have_spent_the_budget():
    clock = Clock()
    found = timed(clock, {"a": clock.engine("a", 5.0)}, seconds=1.0, rounds=10)
    assert found["a"].calls == 3


def test_median_best_and_quartiles_are_those_of_the_calls():
    clock = Clock()
    found = timed(clock, {"a": clock.engine("a", 0.25, 0.75, 0.5, 1.25, 1.0)}, seconds=15.0, rounds=1)["a"]
    assert found == Times(median_ms=750.0, best_ms=250.0, low_ms=500.0, high_ms=1000.0, calls=20)


def test_a_single_call_has_no_spread():
    assert Times.of([0.002]) == Times(2.0, 2.0, 2.0, 2.0, 1)


@pytest.mark.parametrize(
    "how", [{"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": 1.0, "rounds": 0}]
)
def test_a_budget_of_nothing_is_refused(how):
    with pytest.raises(ValueError, match="must be"):
        interleave({"a": lambda: None}, **how)
