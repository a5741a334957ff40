"""The figure of what masks cost: its points lie where they should, and the page shows it as soon as it was measured."""

import argparse
import importlib
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def overhead(width: int, batch: int, flags: argparse.Namespace) -> dict:
    """In place of a measurement; quicker than dense for finetuning, which must not leave the frame."""
    return {"width": width, "weights": 27 * width**2, "batch": batch, "dense_s": 1.0, "prune": 1.2, "finetune": 0.93}


@pytest.fixture
def drawn(benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict], str]:
    """The records, and the figure as text."""
    scaling = importlib.import_module("step_scaling")
    monkeypatch.setattr(scaling, "_overhead", overhead)
    monkeypatch.setattr(scaling, "network_weights", lambda width: 27 * width**2)
    flags = argparse.Namespace(quick=False, scaling=tmp_path / "figure.svg", attack_steps=10, steps=5, seed=0)
    return scaling.draw_scaling(flags), flags.scaling.read_text(encoding="utf-8")


def test_each_panel_goes_from_small_to_large_and_stays_inside_its_frame(drawn):
    from step_figure import GAP, HEIGHT, LEFT, TOP, WIDTH

    lines = re.findall(r'<polyline points="([^"]+)"', drawn[1])
    assert len(lines) == 4  # two panels of prune and finetune
    for number, line in enumerate(lines):
        points = [tuple(map(float, point.split(","))) for point in line.split()]
        left = LEFT + number // 2 * (WIDTH + GAP)
        assert all(before[0] < after[0] for before, after in pairwise(points))
        assert (points[0][0], points[-1][0]) == (left, left + WIDTH)
        assert all(TOP <= y <= TOP + HEIGHT for _, y in points)


def test_the_page_shows_the_figure_and_its_numbers_once_they_are_there(
    drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tables = importlib.import_module("tables")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.training_cost() == "It was not measured on an idle machine yet."
    (tmp_path / "training-cost.json").write_text(json.dumps(drawn[0]), encoding="utf-8")
    page = tables.training_cost()
    assert "](training-cost.svg)" in page
    assert "PGD-10, the median over 5 steps" in page
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == 2 + 5 + 4


def test_the_figure_is_there_when_its_numbers_are():
    assert (ROOT / "docs" / "training-cost.svg").exists() == (ROOT / "results" / "training-cost.json").exists()
