"""Which images a split sends where: by their names where they have any, and else by their positions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harp.data import InMemory, split
from harp.data.splitting import drawn_by_name


def drawn(names: list[str], fraction: float = 0.2, seed: int = 0, part: str = "test") -> set[str]:
    labels = torch.tensor([len(name.partition("/")[0]) for name in names])
    chosen = drawn_by_name(names, labels, fraction, seed, part=part)
    return {name for name, taken in zip(names, chosen.tolist(), strict=True) if taken}


def names_of(count: int, start: int = 0, folder: str = "bolt") -> list[str]:
    return [f"{folder}/{number:05}.png" for number in range(start, start + count)]


@settings(deadline=None)
@given(
    before=st.integers(6, 40),
    added=st.integers(0, 200),
    seed=st.integers(0, 2**32),
    fraction=st.sampled_from([0.1, 0.2]),
)
def test_no_image_moves_into_a_part_when_others_are_added(before, added, seed, fraction):
    first, more = names_of(before), names_of(added, start=before)
    rest = set(first) - drawn(first, fraction, seed)
    assert not rest & drawn([*more, *first], fraction, seed)


def test_no_image_moves_at_all_where_a_class_has_no_need_of_a_replacement():
    first, more = names_of(100), [f"bolt/{number:05}a.png" for number in range(100)]
    assert drawn(first) == drawn(sorted([*first, *more])) & set(first)


def test_the_order_and_the_other_classes_do_not_matter():
    names, others = names_of(50), names_of(30, folder="screw")
    assert drawn(names) == drawn(names[::-1]) == drawn([*others, *names]) & set(names)


def test_a_part_is_its_fraction_of_the_images_in_expectation():
    count, fraction = 20_000, 0.2
    spread = math.sqrt(fraction * (1 - fraction) / count)
    assert abs(len(drawn(names_of(count), fraction)) / count - fraction) < 4 * spread


def test_another_seed_and_another_part_draw_independently():
    names = names_of(2000)
    test, other, validation = drawn(names), drawn(names, seed=1), drawn(names, part="validation")
    for one in (other, validation):
        assert abs(len(test & one) / len(names) - 0.2**2) < 0.02


def test_a_class_of_which_no_name_falls_into_the_part_gives_one_image():
    whole = [drawn(names_of(4), seed=seed) for seed in range(60)]
    assert {len(chosen) for chosen in whole} >= {1, 2}
    assert all(0 < len(chosen) < 4 for chosen in whole)


ALL_OF_TWO = 33
"""A seed that draws both of two images; found by trying."""


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, ALL_OF_TWO)])
def test_a_class_that_cannot_be_in_both_parts_is_refused(count, seed):
    with pytest.raises(
        ValueError, match=rf"the class of nut/00000\.png has {count} images, too few to have some in test"
    ):
        drawn([*names_of(20), *names_of(count, folder="nut")], seed=seed)


def test_images_in_memory_are_split_by_their_names():
    names = tuple(names_of(60))
    pixels = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1)
    whole = InMemory(pixels, torch.zeros(60, dtype=torch.int64), names=names)
    rest, validation = split(whole, 0.2, seed=3)
    assert isinstance(validation, InMemory)
    assert set(validation.names or ()) == drawn(list(names), seed=3, part="validation")
    assert [names[i] for i in validation.images.flatten().tolist()] == list(validation.names or ())
    assert len(rest) + len(validation) == 60


def test_a_name_for_each_image_or_none():
    with pytest.raises(ValueError, match="names has 1 entries for 2 images"):
        InMemory(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), names=("a",))
