"""What holds for any scores, sizes, fractions and budgets."""

import math
from itertools import pairwise

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from harp.pruning import METHODS, attach_masks, exact_counts, freeze_masks, masks, weight_budget
from harp.pruning.keeps import erk, global_magnitude, lamp, uniform
from harp.pruning.mask import logit_of, top
from harp.pruning.scores import scaled_magnitude

quick = settings(max_examples=60, deadline=None, derandomize=True)
few_values = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])
fractions = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-9, 0.5, 1 - 1e-9, 1.0]))


@st.composite
def splits(draw):
    """Fractions and sizes of some layers, and a total that is possible."""
    names = [f"layer{i}" for i in range(draw(st.integers(1, 8)))]
    sizes = {name: draw(st.integers(1, 2000)) for name in names}
    keeps = {name: draw(fractions) for name in names}
    return keeps, sizes, draw(st.integers(len(names), sum(sizes.values())))


# which entries stay


@quick
@given(st.lists(st.one_of(few_values, st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=60), st.data())
def test_top_is_the_head_of_a_stable_sort_by_absolute_value(values, data):
    count = data.draw(st.integers(1, len(values)))
    order = sorted(range(len(values)), key=lambda i: -abs(values[i]))
    assert top(torch.tensor(values), count).nonzero().flatten().tolist() == sorted(order[:count])


@quick
@given(st.lists(few_values, min_size=2, max_size=40), st.data())
def test_masks_are_nested_as_the_count_grows(values, data):
    small = data.draw(st.integers(1, len(values) - 1))
    scores = torch.tensor(values)
    assert not (top(scores, small) & ~top(scores, small + 1)).any()


@quick
@given(st.integers(0, 2**31), st.floats(1e-4, 1e4), st.integers(1, 30))
def test_scaled_magnitude_ranks_like_the_weights_at_any_scale(seed, scale, count):
    weight = scale * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    scores = scaled_magnitude(weight)
    assert math.isclose(scores.abs().max().item(), (6 / 5) ** 0.5, rel_tol=1e-5)
    assert torch.equal(top(scores, count), top(weight, count))


@quick
@given(st.floats(1e-6, 1 - 1e-6), st.floats(0, 0.999))
def test_logit_of_is_the_inverse_of_the_fraction(keep, floor_share):
    floor = keep * floor_share
    logit = logit_of(keep, floor)
    assert math.isclose(floor + (1 - floor) / (1 + math.exp(-logit)), keep, rel_tol=1e-9)


# exact quotas


@settings(quick, max_examples=150)
@given(splits())
def test_quotas_spend_the_total_to_the_entry_and_empty_no_layer(split):
    keeps, sizes, total = split
    counts = exact_counts(keeps, sizes, total)
    assert sum(counts.values()) == total
    assert all(1 <= counts[name] <= size for name, size in sizes.items())


@settings(quick, max_examples=150)
@given(splits(), st.integers(1, 500))
def test_of_equal_layers_the_one_of_larger_fraction_keeps_no_less(split, size):
    keeps, sizes, _ = split
    total = max(len(keeps), round(size * sum(keeps.values()) / 2))
    counts = exact_counts(keeps, dict.fromkeys(sizes, size), total)
    by_fraction = sorted(keeps, key=keeps.__getitem__)
    for less, more in pairwise(by_fraction):
        # The last entries are handed out one by one, among layers of equal remainder in their order.
        assert counts[less] <= counts[more] or (
            counts[less] == counts[more] + 1 and math.isclose(keeps[less], keeps[more])
        )


@settings(quick, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=2, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.floats(0, 0.9)), max_size=8),
)
def test_fractions_that_meet_the_budget_already_stay_within_one_entry(layers, moves):
    """Whole numbers of entries, then parts of an entry moved from one layer to another."""
    sizes = {f"layer{i}": size for i, (size, _) in enumerate(layers)}
    wanted = [1.0 + round(share * (size - 1)) for size, share in layers]
    total = round(sum(wanted))
    for here, there, part in moves:
        here, there = here % len(layers), there % len(layers)
        if wanted[here] - part >= 1 and wanted[there] + part <= layers[there][0]:
            wanted[here] -= part
            wanted[there] += part
    keeps = {name: w / size for w, (name, size) in zip(wanted, sizes.items(), strict=True)}
    counts = exact_counts(keeps, sizes, total)
    assert all(abs(count - w) <= 1 for count, w in zip(counts.values(), wanted, strict=True))


@quick
@given(splits())
def test_a_smaller_budget_takes_from_no_layer_more_than_an_entry_in_exchange(split):
    """One entry less in all: no layer grows by more than the one entry that rounding can move."""
    keeps, sizes, total = split
    assume(total > len(sizes))
    more, less = exact_counts(keeps, sizes, total), exact_counts(keeps, sizes, total - 1)
    assert all(less[name] <= more[name] + 1 for name in sizes)


# splits and whole models


@quick
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6), st.floats(0.001, 1), st.data()
)
def test_every_split_stays_in_range_and_spends_the_budget(shapes, keep, data):
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    weights = {f"layer{i}": torch.randn(shape) for i, shape in enumerate(shapes)}
    total = sum(w.numel() for w in weights.values())
    split = data.draw(st.sampled_from([uniform, erk, global_magnitude, lamp]))
    keeps = split(weights, keep)
    assert all(0 <= value <= 1 for value in keeps.values())
    spent = sum(keeps[name] * w.numel() for name, w in weights.items())
    rounding = 1.0 if split in (global_magnitude, lamp) else 1e-6 * total
    assert abs(spent - keep * total) <= rounding


@settings(quick, max_examples=150)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5),
    st.one_of(st.floats(0.001, 0.5), st.just(1.0)),
    st.sampled_from(sorted(name for name, method in METHODS.items() if "weights" not in method.learn)),
    st.sampled_from(["random", "constant", "few values", "zero"]),
)
def test_any_network_any_method_any_ties_keep_exactly_the_budget(widths, keep, method, weights):
    model = nn.Sequential(*[nn.Linear(i, o, bias=False) for i, o in pairwise(widths)])
    with torch.no_grad():
        for layer in model:
            if weights != "random":
                values = {"constant": [0.3], "few values": [-1.0, 0.5, 1.0], "zero": [0.0]}[weights]
                layer.weight.copy_(
                    torch.tensor(values)[torch.arange(layer.weight.numel()) % len(values)].view_as(layer.weight)
                )
    total = sum(layer.weight.numel() for layer in model)
    assume(round(keep * total) >= len(model))
    attach_masks(model, weight_budget(model, keep=keep), METHODS[method])
    freeze_masks(model)
    counts = [int(mask.current().sum()) for mask in masks(model).values()]
    assert sum(counts) == round(keep * total)
    assert min(counts) >= 1
