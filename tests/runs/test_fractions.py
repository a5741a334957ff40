"""What a card says of how keep fractions came down: missed budgets and runaway layers, by hand and through the stages."""

from dataclasses import replace
from pathlib import Path

from harp.cards import read_card
from harp.recipes import Pruning, Recipe, Task, Training
from harp.runs.fractions import of_fractions
from harp.stages.train import finetune, pretrain, prune
from harp.training.progress import EpochMetrics


def record(epoch: int, density: float, met: bool, **layers: float) -> EpochMetrics:
    return EpochMetrics(epoch, 1.0, 0.5, 0.5, density, None, 0.1, 1.0, 1.0, layers, met)


def test_rises_and_misses_by_hand():
    """From 0.1, `a` rises by 0.888 in the second epoch and stays; `b` falls."""
    records = [record(0, 0.05, False, a=0.102, b=0.05), record(1, 0.03, False, a=0.99, b=0.01)]
    records += [record(2, 0.02, False, a=0.99, b=0.01)]
    found = of_fractions({"a": 0.1, "b": 0.1}, records)
    assert found.pop("largest_rise") == 0.99 - 0.102
    assert found == {
        "missed_budget": True,
        "epochs_over_budget": 3,
        "density": 0.02,
        "runaway_layers": ["a"],
    }


def test_a_jump_in_the_first_epoch_is_seen():
    found = of_fractions({"a": 0.1}, [record(0, 0.01, True, a=0.7)])
    assert (found["runaway_layers"], found["missed_budget"], found["epochs_over_budget"]) == (["a"], False, 0)


FAST = {"epochs": 1, "batch_size": 8, "objective": "natural"}
RECIPE = Recipe(
    task=Task(data="tiny:data", model="tiny:network", validation=0.2),
    pretrain=Training(**FAST),
    prune=Pruning(keep=0.05, **FAST),
    finetune=Training(**FAST),
)


def test_the_published_rule_that_misses_its_budget_says_so_on_both_cards_and_is_cut_exactly(tiny: Path):
    parent = pretrain(RECIPE, tiny / "dense").path
    cards = {}
    for method in ("harp", "harp-published"):
        recipe = replace(RECIPE, prune=replace(RECIPE.prune, method=method))
        masked = prune(recipe, parent, tiny / f"{method}-masks")
        final = finetune(recipe, masked.path, tiny / method)
        cards[method] = [read_card(run.card) for run in (masked, final)]
    for card in cards["harp"]:
        assert card.values["fractions"]["missed_budget"] is False
    for card in cards["harp-published"]:
        assert card.values["fractions"]["missed_budget"] is True
        assert card.values["fractions"]["density"] > 0.05
        assert card.kept == round(0.05 * card.total)
        assert card.name == "HARP as published 5 %"
    assert read_card(parent / "card.json").values["fractions"] is None
