"""Numbers and names as people read them."""

import pytest

from harp.report import wording


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "8/255"),
        (0.0313725, "8/255"),
        (0.031, "0.031"),
        (0.1, "0.1"),
        (0.5, "0.5"),
        (1.0, "1"),
        (0.0, "0"),
        (0.2, "0.2"),
    ],
)
def test_eps_is_written_as_it_usually_is(eps: float, text: str):
    assert wording.eps_text(eps) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(-0.067, "−6.7"), (0.0042, "+0.4"), (-0.0004, "±0.0"), (0.0, "±0.0"), (-0.31, "−31.0")]
)
def test_differences_are_signed_points(difference: float, text: str):
    assert wording.points(difference) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0100062, "1 %"), (0.00123, "0.123 %"), (1.0, "100 %"), (0.3666, "36.7 %"), (0.0, "0 %")]
)
def test_kept_shares_have_three_digits(fraction: float, text: str):
    assert wording.share(fraction).replace(wording.THIN, " ") == text


@pytest.mark.parametrize(
    ("elapsed_s", "text"),
    [
        (None, "–"),
        (41.7, "42 s"),
        (59.7, "1 min 00 s"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 05 min"),
        (360000.0, "100 h 00 min"),
    ],
)
def test_durations_have_the_two_units_that_matter(elapsed_s: float | None, text: str):
    assert wording.duration(elapsed_s) == text


def test_a_missing_number_is_an_en_dash():
    assert wording.percent(None) == wording.count(None) == wording.eps_text(None) == "–"
