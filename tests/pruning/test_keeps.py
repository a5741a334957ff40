"""How a budget is first split over layers."""

import pytest
import torch

from harp.pruning.keeps import erk, global_magnitude, lamp, starting_at, uniform

SPLITS = [uniform, erk, global_magnitude, lamp]


def layers(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (8, 1, 3, 3), "b": (16, 8, 3, 3), "c": (32, 16, 3, 3), "d": (10, 32)}
    return {name: torch.randn(shape, generator=generator) * (i + 1) for i, (name, shape) in enumerate(shapes.items())}


def spent(weights: dict[str, torch.Tensor], keeps: dict[str, float]) -> float:
    return sum(keep * weights[name].numel() for name, keep in keeps.items())


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("keep", [0.001, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_every_split_spends_the_budget(split, keep):
    weights = layers()
    keeps = split(weights, keep)
    assert list(keeps) == list(weights)
    assert all(0 <= value <= 1 for value in keeps.values())
    total = sum(w.numel() for w in weights.values())
    assert spent(weights, keeps) == pytest.approx(keep * total, abs=0.51)


def test_uniform_gives_every_layer_the_same_fraction():
    assert uniform(layers(), 0.07) == dict.fromkeys("abcd", 0.07)


def test_erk_keeps_small_layers_denser():
    keeps = erk(layers(), 0.1)
    assert keeps["a"] > keeps["d"] > keeps["b"] > keeps["c"]


def test_erk_splits_what_full_layers_leave_over():
    keeps = erk(layers(), 0.4)
    assert keeps["a"] == keeps["d"] == 1.0
    assert keeps["c"] < keeps["b"] < 1.0
    assert keeps["b"] / keeps["c"] == pytest.approx((30 / 1152) / (54 / 4608))
    assert erk(layers(), 1.0) == dict.fromkeys("abcd", 1.0)


@pytest.mark.parametrize("keep", [0.01, 0.2, 0.6])
def test_global_is_one_threshold_over_all_layers(keep):
    weights = layers()
    everything = torch.cat([w.abs().flatten() for w in weights.values()])
    threshold = everything.sort(descending=True).values[round(keep * everything.numel()) - 1]
    for name, fraction in global_magnitude(weights, keep).items():
        above = (weights[name].abs() >= threshold).count_nonzero().item()
        assert fraction * weights[name].numel() == pytest.approx(above, abs=1e-6)


def test_global_settles_ties_by_order():
    keeps = global_magnitude({"a": torch.ones(4), "b": torch.ones(4)}, 0.75)
    assert keeps == {"a": 1.0, "b": 0.5}


def test_lamp_does_not_care_for_the_scale_of_a_layer():
    weights = layers()
    scaled = {name: w * 10.0**i for i, (name, w) in enumerate(weights.items())}
    assert lamp(scaled, 0.05) == lamp(weights, 0.05)
    assert global_magnitude(scaled, 0.05) != global_magnitude(weights, 0.05)


def test_lamp_keeps_the_largest_weight_of_every_layer():
    weights = layers()
    keeps = lamp(weights, 4 / sum(w.numel() for w in weights.values()))
    assert [round(keeps[name] * w.numel()) for name, w in weights.items()] == [1, 1, 1, 1]


@pytest.mark.parametrize("split", SPLITS)
def test_layers_of_zeros_or_of_one_value_break_no_split(split):
    weights = {"zeros": torch.zeros(5, 5), "ones": torch.ones(5, 5), "one": torch.randn(1, 1)}
    keeps = split(weights, 0.3)
    assert all(0 <= value <= 1 for value in keeps.values())
    assert spent(weights, keeps) == pytest.approx(0.3 * 51, abs=0.51)


def test_starting_at_starts_there_unless_the_target_is_larger():
    split = starting_at(0.1, uniform)
    assert split(layers(), 0.01) == dict.fromkeys("abcd", 0.1)
    assert split(layers(), 0.5) == dict.fromkeys("abcd", 0.5)
