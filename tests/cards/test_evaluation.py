"""An evaluation as a value and as JSON: what is written comes back, and a damaged one is named."""

import json

import pytest

from harp.cards import Evaluation

RESULT = Evaluation(
    attack="autoattack",
    norm="linf",
    eps=8 / 255,
    images=1000,
    correct=583,
    seed=0,
    elapsed_s=1.5,
    per_attack={"apgd-ce": 0.6, "apgd-t": 0.583},
    notes=("a note",),
)


def test_it_prints_as_people_write_it():
    assert str(RESULT) == "58.3 % [55.2, 61.3] of 1000 under AutoAttack linf 8/255"
    clean = Evaluation("clean", None, None, 200, 180, 0, 0.1)
    assert str(clean) == "90.0 % [85.1, 93.4] of 200 clean"
    assert str(Evaluation("pgd-20", "l2", 0.5, 200, 180, 0, 0.1)).endswith("of 200 under PGD-20 l2 0.5")


def test_json_goes_both_ways_and_holds_what_the_report_reads():
    record = json.loads(json.dumps(RESULT.to_json()))
    assert Evaluation.from_json(record) == RESULT
    assert record["accuracy"] == 0.583
    assert record["low"] < 0.583 < record["high"]
    del record["right"]
    assert Evaluation.from_json(record) == RESULT, "cards without flags are read, too"


@pytest.mark.parametrize(
    ("entry", "value", "complaint"),
    [
        ("images", 10.0, "images is 10.0, expected a whole number"),
        ("images", True, "images is True, expected a whole number"),
        ("images", 0, "images is 0, expected at least one"),
        ("correct", 1001, "correct is 1001, expected a whole number from 0 to 1000"),
        ("accuracy", 0.9, "accuracy is 0.9, expected 0.583000, as correct=583 of images=1000"),
        ("accuracy", float("nan"), "accuracy is nan, expected a number from 0 to 1"),
        ("low", 0.1, "low is 0.1, expected 0.552"),
        ("eps", -1.0, "eps is -1.0, expected a number from 0"),
        ("eps", "8/255", "eps is '8/255', expected a number"),
        ("norm", "l3", "norm='l3' must be 'linf', 'l2' or None"),
        ("elapsed_s", float("inf"), "elapsed_s=inf must be 0 or more and finite"),
        ("per_attack", {"square": 2.0}, "per_attack: square is 2.0, expected a number from 0 to 1"),
        ("per_attack", {"square": "x"}, "per_attack: square is 'x', expected a number"),
        ("notes", [1], "notes is .1., expected a list of texts"),
        ("right", "zz", "'zz'"),
        ("right", "0" * 250, "does not mark 583"),
        ("surprise", 1, "surprise is 1, expected no such entry"),
    ],
)
def test_a_damaged_record_names_the_entry(entry, value, complaint):
    with pytest.raises(ValueError, match=f"^card.json, evaluations.0.(:|,).*{complaint}"):
        Evaluation.from_json({**RESULT.to_json(), entry: value}, "card.json, evaluations[0]")


LATER = {
    "right",
    "step_size",
    "random_start",
    "restarts",
    "chance",
    "inputs",
    "engine",
    "confusion",
    "calibration",
    "distances",
}
"""What cards of earlier versions do not have."""


@pytest.mark.parametrize("entry", sorted(RESULT.to_json().keys() - LATER))
def test_a_missing_entry_is_named(entry):
    record = RESULT.to_json()
    del record[entry]
    with pytest.raises(
        ValueError, match=f"an evaluation: {entry} is missing, expected an entry that every evaluation has"
    ):
        Evaluation.from_json(record)
