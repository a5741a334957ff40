"""The figure of the README is drawn from the cards of the demo."""

import importlib
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("demo_figure")


def test_the_figure_shows_what_the_cards_hold(figure: ModuleType):
    assert figure.OUT.read_text(encoding="utf-8") == figure.draw(figure.read_cards(figure.CARDS))


def test_a_dot_lies_at_its_accuracy_and_inside_of_its_interval(figure: ModuleType):
    found = {"attack": "clean", "images": 4, "accuracy": 0.5, "low": 0.25, "high": 0.75}
    card = {"name": "HARP <1 %>", "method": "harp", "evaluations": [found, {**found, "attack": "autoattack"}]}
    root = ET.fromstring(figure.draw([card]))
    assert [float(dot.get("cx", 0)) for dot in root.iter(f"{SVG}circle")] == [92 + 145, 92 + 290 + 30 + 145]
    bars = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width")]
    assert next((float(bar.get("x1", 0)), float(bar.get("x2", 0))) for bar in bars) == (92 + 72.5, 92 + 217.5)
    assert [title.text for title in root.iter(f"{SVG}title")][1] == "HARP <1 %>: 50.0 % (25.0–75.0)"
