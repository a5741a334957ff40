"""Scales, ticks and labels: everything that is drawn stays inside the figure, in order, and readable."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harp.report.chart import (
    LABEL_GAP,
    MOST_LABELS,
    PLOT_BOTTOM,
    TOP,
    Mark,
    Scale,
    Series,
    accuracy_scale,
    end_labels,
    fraction_scale,
    linear_scale,
    nice_step,
)

FRACTIONS = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(FRACTIONS)
def test_accuracies_stay_inside_their_axis(values: list[float]):
    scale = accuracy_scale(values)
    assert 0 <= scale.low < scale.high <= 1
    assert all(TOP - 1e-6 <= scale.y(value) <= PLOT_BOTTOM + 1e-6 for value in values)


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20))
def test_any_finite_values_stay_inside_a_linear_axis(values: list[float]):
    scale = linear_scale(values)
    assert all(TOP - 1e-3 <= scale.y(value) <= PLOT_BOTTOM + 1e-3 for value in values)


@given(FRACTIONS)
def test_fractions_stay_inside_a_logarithmic_axis_of_whole_decades(values: list[float]):
    scale = fraction_scale(values)
    assert all(TOP - 1e-6 <= scale.y(value) <= PLOT_BOTTOM + 1e-6 for value in values)
    assert scale.ticks()[-1] == 1
    assert len(scale.ticks()) >= 2


@given(FRACTIONS, st.sampled_from([accuracy_scale, linear_scale]))
@example([5e-324], linear_scale)
def test_ticks_are_few_rising_and_inside(values: list[float], make_scale: Callable[[list[float]], Scale]):
    scale = make_scale(values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert scale.low - 1e-9 <= ticks[0]
    assert ticks[-1] <= scale.high + 1e-9


@pytest.mark.parametrize(
    ("least", "step"), [(0.03, 0.05), (1.0, 1.0), (1.1, 2.0), (2.5, 5.0), (6.0, 10.0), (0.0007, 0.001)]
)
def test_steps_are_one_two_or_five_times_a_power_of_ten(least: float, step: float):
    assert nice_step(least) == pytest.approx(step)


@given(st.lists(st.floats(TOP, PLOT_BOTTOM), min_size=1, max_size=MOST_LABELS))
def test_names_never_overlap_nor_leave_the_plot_nor_change_their_order(heights: list[float]):
    labels = end_labels([_series(str(i), y) for i, y in enumerate(heights)])
    assert len(labels) == len(heights)
    assert all(b.y - a.y >= LABEL_GAP - 1e-6 for a, b in pairwise(labels))
    assert labels[0].y >= TOP - LABEL_GAP
    assert labels[-1].y <= PLOT_BOTTOM + 1e-6
    assert [heights[int(label.full)] for label in labels] == sorted(heights)


def test_a_name_with_room_stands_at_the_height_of_its_line():
    assert [label.y for label in end_labels([_series("a", 50.0), _series("b", 150.0)])] == [50.0, 150.0]


def test_names_that_cannot_fit_are_left_out_altogether():
    assert end_labels([_series(str(i), 100.0) for i in range(MOST_LABELS + 1)]) == ()


def test_a_long_name_is_shortened_in_the_figure_and_whole_when_pointed_at():
    (label,) = end_labels([_series("a very long name of a run", 50.0)])
    assert label.text == "a very long nam…"
    assert label.full == "a very long name of a run"


def _series(label: str, y: float) -> Series:
    return Series(label, "harp", "", (Mark(100.0, y, label),), joined=False, dots=True)
