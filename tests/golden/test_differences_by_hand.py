"""Means, paired differences and their t intervals, worked out by hand from a table of Student's t."""

import pytest

from harp.report.differences import Difference, paired_difference, summary, verdict

T = {2: 12.7062, 3: 4.30265, 4: 3.18245, 10: 2.26216}
"""n → t(0.975, n − 1), from a printed table."""


def test_a_mean_its_spread_and_its_extremes():
    found = summary([0.3, 0.5, 0.4])
    assert found is not None
    assert (found.n, found.least, found.most) == (3, 0.3, 0.5)
    assert found.mean == pytest.approx(0.4)
    assert found.spread == pytest.approx(0.1)  # sqrt((0.01 + 0.01 + 0) / 2)
    assert found.ends == (pytest.approx(0.3), pytest.approx(0.5))


def test_one_value_has_no_spread_and_none_has_no_summary():
    found = summary([0.3])
    assert found is not None
    assert found.spread is None
    assert found.ends == (0.3, 0.3)
    assert summary([]) is None


def test_the_spread_of_a_fraction_does_not_leave_the_unit_interval():
    found = summary([0.0, 0.0, 0.9])
    assert found is not None
    assert found.ends[0] == 0.0


@pytest.mark.parametrize(
    ("differences", "mean", "spread"),
    [
        ([0.02, 0.04], 0.03, 0.0141421),
        ([0.01, 0.02, 0.03], 0.02, 0.01),
        ([-0.01, 0.01, 0.03, 0.05], 0.02, 0.0258199),
        ([0.0] * 5 + [0.02] * 5, 0.01, 0.0105409),
    ],
)
def test_the_interval_is_t_times_the_standard_error_to_each_side(differences: list[float], mean: float, spread: float):
    theirs = {seed: 0.1 * seed % 0.7 for seed in range(len(differences))}
    ours = {seed: theirs[seed] + difference for seed, difference in enumerate(differences)}
    found, n = paired_difference(ours, theirs), len(differences)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert (found.n, found.mean) == (n, pytest.approx(mean))
    assert found.high - found.mean == pytest.approx(T[n] * spread / n**0.5, rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_only_seeds_that_both_have_are_paired():
    found = paired_difference({0: 0.5, 1: 0.6, 7: 0.9}, {1: 0.5, 0: 0.3, 8: 0.1})
    assert found is not None
    assert (found.n, found.mean) == (2, pytest.approx(0.15))
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_a_single_pair_has_a_difference_and_no_interval():
    assert paired_difference({0: 0.5}, {0: 0.25}) == Difference(1, 0.25, None, None)


def between(low: float, high: float, n: int = 3) -> Difference:
    return Difference(n, (low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("clean", "robust", "said"),
    [
        (between(0.01, 0.03), between(0.02, 0.04), "better: clean and AutoAttack"),
        (between(0.01, 0.03), between(-0.01, 0.04), "better: clean"),
        (between(0.01, 0.03), between(-0.04, -0.01), "better: clean; worse: AutoAttack"),
        (between(-0.03, -0.01), between(-0.04, -0.01), "worse: clean and AutoAttack"),
        (between(-0.01, 0.01), between(0.0, 0.04), "not separable"),
        (between(0.01, 0.03, n=2), between(0.02, 0.04), "too few seeds"),
        (Difference(1, 0.5, None, None), Difference(1, 0.5, None, None), "too few seeds"),
        (between(0.01, 0.03), None, "better: clean"),
        (None, None, ""),
    ],
)
def test_the_verdict_says_what_the_intervals_allow(clean: Difference | None, robust: Difference | None, said: str):
    assert verdict({"clean": clean, "AutoAttack": robust}) == said
