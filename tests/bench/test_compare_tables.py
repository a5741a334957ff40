"""The tables and the figure of the comparison on the anchor are computed from its records."""

import importlib
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("compare_tables")


def records(method: str, *accuracies: tuple[float, float | None], keep: float = 0.1) -> list[dict]:
    """A record per seed, from 0."""
    made = [{"method": method, "keep": keep, "seed": seed} for seed in range(len(accuracies))]
    return [r | {"clean": c, "autoattack": a} for r, (c, a) in zip(made, accuracies, strict=True)]


# Differences of 2, 3 and 4 points have a standard deviation of 1, and t(0.975, 2) / sqrt(3) = 2.484.
RECORDS = [
    *records("dense", (0.5, 0.3), keep=1.0), *records("harp", (0.42, 0.22), (0.43, 0.22), (0.44, 0.22)),
    *records("hydra", (0.4, 0.2), (0.4, 0.22), (0.4, 0.24)), *records("lwm", (0.1, None), (0.2, 0.1)),
    *records("harp+s2ap", (0.43, 0.22), (0.44, 0.22), (0.45, 0.22)),
    *records("harp+awp", (0.44, 0.23), (0.45, 0.23), (0.46, 0.23)),
    *records("harp+s2ap+awp", (0.46, 0.24), (0.46, 0.24), (0.46, 0.24)),
]  # fmt: skip


def test_a_method_is_beside_hydra_seed_by_seed_with_the_interval_of_student(tables: ModuleType):
    _, lines = tables.accuracies(RECORDS)
    means, differences = ["43.0 ± 1.0", "22.0 ± 0.0"], ["+3.0 (+0.5 to +5.5) ↑", "±0.0 (−5.0 to +5.0)"]
    assert ["10 %", "HARP", *means, *differences] in lines


def test_nothing_is_said_of_the_baseline_the_parent_and_of_few_seeds(tables: ModuleType):
    _, lines = tables.accuracies(RECORDS)
    by_method = {line[1]: line for line in lines}
    assert by_method["HYDRA"][4:] == ["", ""]
    assert by_method["dense parents"] == ["100 %", "dense parents", "50.0", "30.0", "", ""]
    assert by_method["LWM"][2:4] == ["15.0 ± 7.1", "–"]
    assert not any(arrow in by_method["LWM"][4] for arrow in "↑↓")


def test_what_two_plug_ins_do_together_is_set_against_the_sum_of_what_each_does(tables: ModuleType):
    _, lines = tables.beside_harp(RECORDS)
    by_name = {line[1]: line[2:] for line in lines}
    assert by_name["HARP+S2AP"][0] == "+1.0 (+1.0 to +1.0) ↑"
    assert by_name["HARP+AWP"] == ["+2.0 (+2.0 to +2.0) ↑", "+1.0 (+1.0 to +1.0) ↑"]
    assert by_name["HYDRA"][0] == "−3.0 (−5.5 to −0.5) ↓"
    # Both give 4, 3 and 2 points, each alone 1 and 2: 1, 0 and −1 are left, and 1 point under AutoAttack.
    assert by_name["S2AP and AWP, less the sum of each"] == ["±0.0 (−2.5 to +2.5)", "+1.0 (+1.0 to +1.0) ↑"]
    assert "HARP" not in by_name


def test_the_figure_holds_a_dot_for_each_network_and_test(tables: ModuleType, tmp_path: Path):
    importlib.import_module("compare_figure").draw(RECORDS, tmp_path / "all.svg")
    drawn = ET.parse(tmp_path / "all.svg").getroot()
    said = [dot.findtext(f"{SVG}title") for dot in drawn.iter(f"{SVG}circle")]
    assert len(said) == 2 * 17 - 1  # one of LWM's was not judged under AutoAttack
    assert "HARP+S2AP+AWP, seed 2: 46.0 %" in said
