"""An entry of RobustBench: accuracies in percent as texts, of the same images; what only authors know is null."""

from dataclasses import replace

import pytest

from harp.cards import Card, Evaluation, robustbench_entry

CLEAN = Evaluation("clean", None, None, 10_000, 8123, 0, 1.0)
AUTO = Evaluation("autoattack", "linf", 8 / 255, 10_000, 4512, 0, 1.0)


def card(*evaluations: Evaluation) -> Card:
    return Card(
        name="HARP 1 %",
        stage="finetune",
        method="harp",
        parent=None,
        data="cifar10",
        model="resnet18",
        classes=(),
        kept=111_000,
        total=11_100_000,
        keep=0.01,
        layers={},
        seed=0,
        elapsed_s=1.0,
        environment={},
        evaluations=evaluations,
        corruptions=None,
        values={},
    )


def test_what_a_card_knows_is_filled_in_as_the_leaderboard_writes_it():
    entry = robustbench_entry(card(CLEAN, AUTO))
    assert entry == {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": None,
        "architecture": "resnet18",
        "eps": "8/255",
        "clean_acc": "81.23",
        "reported": None,
        "autoattack_acc": "45.12",
        "footnote": "111,000 of 11,100,000 weights kept",
    }


def test_a_settled_accuracy_that_is_lower_is_the_external_one():
    settled = replace(AUTO, attack="settled", correct=4400)
    assert robustbench_entry(card(CLEAN, AUTO, settled))["external"] == "44.00"
    assert "external" not in robustbench_entry(card(CLEAN, AUTO, replace(settled, correct=4512)))
    assert "external" not in robustbench_entry(card(CLEAN, AUTO, replace(settled, eps=0.01)))


def test_fewer_images_are_said_and_the_most_count():
    few = replace(AUTO, images=1000, correct=400)
    entry = robustbench_entry(card(replace(CLEAN, images=1000, correct=700), few))
    assert entry["footnote"].endswith("kept; on 1,000 test images, the leaderboard wants 10,000")
    assert (entry["clean_acc"], entry["autoattack_acc"]) == ("70.00", "40.00")
    assert robustbench_entry(card(few, CLEAN, AUTO))["autoattack_acc"] == "45.12"
    assert robustbench_entry(card(few))["clean_acc"] is None


def test_without_autoattack_there_is_no_entry():
    with pytest.raises(ValueError, match="HARP 1 % has no accuracy under AutoAttack: harp evaluate RUN --protocol"):
        robustbench_entry(card(CLEAN))
