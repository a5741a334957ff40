"""Counts: their interval, a bit for each image, and what contradicts itself."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harp.cards import Evaluation, wilson
from harp.evaluation import contradictions
from harp.evaluation.result import pack, unpack


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (5, 10, 0.236593, 0.763407),
        (583, 1000, 0.552179, 0.613185),
        (0, 1, 0.0, 0.793451),
    ],
)
def test_the_wilson_interval_has_its_known_values(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=2e-6)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_contains_the_fraction_and_shrinks_with_more_images(counts):
    correct, n = counts
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    narrower = wilson(4 * correct, 4 * n)
    assert narrower[1] - narrower[0] < high - low


@pytest.mark.parametrize(("correct", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(ValueError, match=f"correct={correct} of images={n}"):
        wilson(correct, n)


# The result


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_flags_survive_the_way_to_text_and_back(flags):
    bits = torch.tensor(flags)
    assert len(pack(bits)) == math.ceil(len(flags) / 4)
    assert torch.equal(unpack(pack(bits), len(flags)), bits)


def test_the_first_image_is_the_highest_bit():
    assert pack(torch.tensor([True, False, False, False, True])) == "88"


def test_contradictions_are_found_and_honest_results_have_none():
    clean = Evaluation("clean", None, None, 1000, 800, 0, 0.0)
    pgd = Evaluation("pgd-20", "linf", 0.03, 1000, 500, 0, 0.0)
    strong = replace(pgd, attack="autoattack", correct=480)
    assert contradictions([clean, pgd, strong, replace(strong, eps=0.06, correct=200)]) == []
    (lie,) = contradictions([clean, replace(pgd, correct=810)])
    assert "81.0 %" in lie
    assert "80.0 %" in lie
    assert len(contradictions([pgd, replace(strong, correct=520)])) == 1
    assert len(contradictions([pgd, replace(pgd, eps=0.06, correct=600)])) == 1
    assert contradictions([pgd, replace(strong, correct=520, norm="l2")]) == []
    assert contradictions([pgd, replace(strong, correct=502)]) == [], "random starts differ"


# Counting
