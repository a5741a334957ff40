"""Damaged, hostile and foreign files: an error that names the file and what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from harp.report import write_report


def test_a_directory_that_is_not_a_run_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"empty is not a run: it has no card\.json"):
        write_report([_mkdir(tmp_path / "empty")], tmp_path / "report.html")


def _mkdir(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_file_or_nothing_in_place_of_a_run_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"gone is not a directory"):
        write_report([tmp_path / "gone"], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("card.json", "", r"card\.json: not valid JSON, truncated or damaged"),
        ("card.json", '{"format": 1, "name": "De', r"card\.json: not valid JSON, truncated or damaged"),
        ("card.json", "[1, 2]", r"card\.json: a JSON list, expected an object"),
        ("card.json", "[" * 100_000, r"card\.json: nested too deeply"),
        ("card.json", '{"keep": NaN}', r"card\.json: .*NaN is not a JSON number"),
        ("card.json", '{"keep": ' + "9" * 5000 + "}", r"card\.json: not valid JSON"),
        ("recipe.json", '{"epochs": 1', r"recipe\.json: not valid JSON"),
        ("metrics.jsonl", '{"epoch": 0}\n{"epoch": 1', r"metrics\.jsonl, line 2: not valid JSON"),
        ("metrics.jsonl", '{"epoch": 0}\n\n{"epoch": 1}\n', r"metrics\.jsonl, line 2: not valid JSON"),
        ("metrics.jsonl", '{"epoch": 3}\n{"epoch": 3}\n', r"line 2: epoch is 3, expected more than the 3"),
        ("metrics.jsonl", '{"epoch": 0, "density": 1.5}\n', r"line 1: density is 1\.5, expected a number from 0 to 1"),
        ("metrics.jsonl", '{"epoch": 0, "loss": Infinity}\n', r"line 1: .*Infinity is not a JSON number"),
        ("metrics.jsonl", '{"epoch": 0, "layers": {"fc": true}}\n', r"line 1, layers: fc is True, expected a number"),
    ],
)
def test_damaged_text_names_its_file_and_place(fake, tmp_path: Path, name: str, text: str, message: str):
    path = fake("dense").write()
    (path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        write_report([path], tmp_path / "report.html")


def test_a_file_that_is_not_utf8_is_named(fake, tmp_path: Path):
    path = fake("dense").write()
    (path / "card.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ValueError, match=r"card\.json: not UTF-8"):
        write_report([path], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"format is 2, expected 1"),
        ({"name": None}, r"name is None, expected a text"),
        ({"kept": 2001}, r"kept is 2001, expected a whole number from 0 to 2000"),
        ({"kept": 1999}, r"kept is 1999, expected 2000: total 2000 less the 0 that its layers removed"),
        ({"kept": 20.0}, r"kept is 20\.0, expected a whole number"),
        ({"total": True}, r"total is True, expected a whole number"),
        ({"keep": 0}, r"keep is 0, expected a fraction above 0"),
        ({"keep": 1.5}, r"keep is 1\.5, expected a number from 0 to 1"),
        ({"layers": {"fc": {"kept": 3, "total": 2}}}, r"layers, fc: kept is 3, expected a whole number from 0 to 2"),
        ({"layers": [1]}, r"layers is \[1\], expected an object"),
        ({"classes": [1, 2]}, r"classes is \[1, 2\], expected a list of texts"),
        ({"seed": -1}, r"seed is -1, expected a whole number"),
        ({"parent": "a\0b"}, r"parent is .*, expected a path relative to the run directory"),
        ({"evaluations": {}}, r"evaluations is \{\}, expected a list of objects"),
    ],
)
def test_a_card_out_of_range_names_the_entry(fake, tmp_path: Path, change: dict[str, Any], message: str):
    run = fake("dense")
    run.card |= change
    path = run.write()
    with pytest.raises(ValueError, match=message) as caught:
        write_report([path], tmp_path / "report.html")
    assert "card.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 1.2}, r"evaluations\[0\]: accuracy is 1\.2, expected a number from 0 to 1"),
        ({"accuracy": 0.91}, r"evaluations\[0\]: accuracy is 0\.91, expected 0\.900000, as correct=900 of images=1000"),
        ({"correct": 1001}, r"evaluations\[0\]: correct is 1001, expected a whole number from 0 to 1000"),
        ({"images": 0}, r"evaluations\[0\]: images is 0, expected at least one"),
        ({"low": 0.95}, r"evaluations\[0\]: low is 0\.95, expected 0\.879"),
        ({"high": 0.85}, r"evaluations\[0\]: high is 0\.85, expected 0\.917"),
        ({"eps": -0.1}, r"evaluations\[0\]: eps is -0\.1"),
        ({"norm": "<b>"}, r"evaluations\[0\]: norm='<b>' must be 'linf', 'l2' or None"),
        ({"accuracy": 0.90001}, r"evaluations\[0\]: accuracy is 0\.90001, expected 0\.900000"),
        ({"per_attack": {"square": 2}}, r"evaluations\[0\], per_attack: square is 2"),
        ({"notes": "text"}, r"evaluations\[0\]: notes is 'text', expected a list of texts"),
    ],
)
def test_an_evaluation_out_of_range_names_the_entry(fake, evaluation, tmp_path: Path, change: dict, message: str):
    run = fake("dense")
    run.card["evaluations"] = [evaluation("clean", 900) | change]
    with pytest.raises(ValueError, match=message):
        write_report([run.write()], tmp_path / "report.html")


def test_layers_left_out_of_pruning_need_not_be_counted(fake, page):
    run = fake("harp", "harp", (100, 5, 5))  # conv1 stays whole and is not part of the budget
    run.card |= {"kept": 10, "total": 1900}
    assert "10 / 1,900" in page([run.write()]).one("table", "results").text


def test_a_lineage_in_a_circle_is_an_error(fake, tmp_path: Path):
    one, two = fake("one", parent="../two").write(), fake("two", parent="../one").write()
    with pytest.raises(ValueError, match=r"card\.json: following parent leads back to"):
        write_report([one, two], tmp_path / "report.html")


def test_a_parent_that_is_gone_is_no_error(fake, page):
    assert "Orphan" in page([fake("run", parent="../gone", name="Orphan").write()]).text


def test_a_damaged_parent_is_an_error_that_names_it(fake, tmp_path: Path):
    (fake("dense").write() / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"dense/card\.json: not valid JSON"):
        write_report([fake("harp", "harp", (10, 5, 5)).write()], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("x", np.zeros((2, 4, 4), np.float32), r"x is F32 \(2, 4, 4\), expected F32 \(k, channels, height, width\)"),
        ("x", np.zeros((2, 1, 4, 4), np.float64), r"x is F64"),
        ("x", np.zeros((2, 4, 2000, 2000), np.uint8)[:, :1, :1, :1], r"x is U8"),
        ("x", np.full((2, 1, 4, 4), 1.5, np.float32), r"x has pixels outside \[0, 1\]"),
        ("x_adv", np.full((2, 1, 4, 4), np.nan, np.float32), r"x_adv has pixels outside \[0, 1\]"),
        ("x_adv", np.zeros((2, 1, 4, 5), np.float32), r"x_adv is F32 \(2, 1, 4, 5\), expected F32 \(2, 1, 4, 4\)"),
        ("y", np.array([0, 3]), r"y has labels outside the 3 classes"),
        ("clean_prediction", np.array([0, -1]), r"clean_prediction has labels outside the 3 classes"),
        ("y", np.array([0]), r"y is I64 \(1,\), expected I64 \(2,\)"),
    ],
)
def test_examples_that_disagree_name_the_tensor(fake, pictures, tmp_path: Path, name: str, tensor, message: str):
    run = fake("dense")
    run.examples = pictures() | {name: np.ascontiguousarray(tensor)}
    with pytest.raises(ValueError, match=r"examples\.safetensors: " + message):
        write_report([run.write()], tmp_path / "report.html")


def test_truncated_examples_name_the_file(fake, pictures, tmp_path: Path):
    run = fake("dense")
    run.examples = pictures()
    file = run.write() / "evaluations" / "examples.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"examples\.safetensors: not a safetensors file, truncated or damaged"):
        write_report([run.path], tmp_path / "report.html")


def test_examples_with_a_tensor_missing_say_which(fake, pictures, tmp_path: Path):
    run = fake("dense")
    run.examples = pictures()
    del run.examples["y"]
    with pytest.raises(ValueError, match=r"examples\.safetensors: has no tensor y"):
        write_report([run.write()], tmp_path / "report.html")


def test_without_the_plain_name_the_examples_of_autoattack_are_taken(fake, pictures, page):
    run = fake("dense")
    folder = run.write() / "evaluations"
    folder.mkdir()
    for name in ("pgd-20", "autoattack"):
        save_file(pictures(), folder / f"examples-{name}.safetensors", {"attack": name, "eps": "0.1"})
    assert "AutoAttack, eps 0.1" in page([run.path]).one("table", "gallery").text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "name",
    "stage",
    "method",
    "parent",
    "data",
    "classes",
    "kept",
    "total",
    "keep",
    "layers",
    "environment",
    "seed",
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from([*KEYS, "evaluations"]), value=JSON, inside=st.booleans())
def test_whatever_stands_in_a_card_the_answer_is_a_page_or_an_error_that_names_it(
    fake, evaluation, tmp_path: Path, key: str, value: Any, inside: bool
):
    run = fake("dense")
    run.card["evaluations"] = [evaluation("clean", 900)]
    if inside and isinstance(run.card[key], dict):
        run.card[key][next(iter(run.card[key]))] = value
    elif inside and key == "evaluations":
        run.card[key][0]["per_attack"] = value
    else:
        run.card[key] = value
    complaint = ""
    try:
        write_report([run.write()], tmp_path / "report.html")
    except ValueError as error:
        complaint = str(error)
    assert not complaint or "card.json" in complaint, json.dumps(run.card)
