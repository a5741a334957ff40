"""Run directories made up for the report, and a page taken apart again."""

import datetime
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harp.report import write_report

DATE = datetime.date(2026, 3, 1)
VOID = {"meta", "link", "img", "br", "input", "hr"}
LAYERS = {"conv1.weight": 100, "conv2.weight": 900, "fc.weight": 1000}


def wilson(correct: int, images: int) -> tuple[float, float]:
    z, p = 1.959964, correct / images
    middle = (p + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * math.sqrt(p * (1 - p) / images + z * z / (4 * images * images))
    return max(0.0, middle - half), min(1.0, middle + half)


def evaluation(attack: str, correct: int, images: int = 1000, eps: float | None = None, **more: Any) -> dict[str, Any]:
    low, high = wilson(correct, images)
    threat = {"norm": None if eps is None else "linf", "eps": eps}
    counted = {"images": images, "correct": correct, "accuracy": correct / images, "low": low, "high": high}
    return {"attack": attack, **threat, **counted, "seed": 0, "elapsed_s": 1.5, "per_attack": {}, "notes": [], **more}


def epoch(number: int, **more: Any) -> dict[str, Any]:
    accuracies = {"clean_accuracy": 0.6 + 0.01 * number, "robust_accuracy": 0.4 + 0.01 * number}
    return {
        "epoch": number,
        "loss": 2.0 / (number + 1),
        **accuracies,
        "density": 1.0,
        "gamma": None,
        "layers": {},
        **more,
    }


@dataclass
class Fake:
    """A run directory before it is written; tests change what they are about."""

    path: Path
    card: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    recipe: dict[str, Any] | None = None
    examples: dict[str, np.ndarray] | None = None
    examples_metadata: dict[str, str] = field(default_factory=lambda: {"attack": "pgd-20", "eps": "0.1"})

    def write(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "card.json").write_text(json.dumps(self.card), encoding="utf-8")
        if self.metrics:
            lines = "".join(json.dumps(record) + "\n" for record in self.metrics)
            (self.path / "metrics.jsonl").write_text(lines, encoding="utf-8")
        if self.recipe is not None:
            (self.path / "recipe.json").write_text(json.dumps(self.recipe), encoding="utf-8")
        if self.examples is not None:
            (self.path / "evaluations").mkdir(exist_ok=True)
            save_file(self.examples, self.path / "evaluations" / "examples.safetensors", self.examples_metadata)
        return self.path


def pictures(channels: int = 1, side: int = 4, k: int = 2, change: float = 0.1) -> dict[str, np.ndarray]:
    """Test images, attacked by a constant change that differs in sign from pixel to pixel."""
    rng = np.random.default_rng(0)
    x = (0.2 + 0.6 * rng.random((k, channels, side, side))).astype(np.float32)
    signs = np.where(rng.random(x.shape) < 0.5, -1, 1)
    labels = np.arange(k, dtype=np.int64) % 3
    return {
        "x": x,
        "x_adv": (x + change * signs).astype(np.float32),
        "y": labels,
        "clean_prediction": labels.copy(),
        "adversarial_prediction": (labels + 1) % 3,
    }


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., Fake]:
    """A run that keeps the given numbers of 100, 900 and 1,000 weights; all of them by default."""

    def make(directory: str, method: str | None = None, kept: tuple[int, ...] = (100, 900, 1000), **card: Any) -> Fake:
        layers = {name: {"kept": k, "total": n} for (name, n), k in zip(LAYERS.items(), kept, strict=True)}
        keep = sum(kept) / 2000
        facts = {
            "format": 1,
            "name": "Dense" if method is None else f"{method.upper()} {100 * keep:g} %",
            "stage": "pretrain" if method is None else "finetune",
            "method": method,
            "parent": None if method is None else "../dense",
            "data": "digits",
            "classes": ["zero", "one", "two"],
            "model": "resnet_small",
            "kept": sum(kept),
            "total": 2000,
            "keep": keep,
            "layers": layers,
            "parameters": 2100,
            "best_epoch": 1,
            "seed": 0,
            "elapsed_s": 75.0,
            "environment": {"harp": "0.1.0", "torch": "2.6.0", "cpu": "Some CPU", "cores": 2, "device": "cpu"},
            "evaluations": [],
        }
        return Fake(tmp_path / "runs" / directory, facts | card)

    return make


@pytest.fixture
def runs(fake: Callable[..., Fake]) -> list[Path]:
    """Dense, HARP and HYDRA at 1 %, HARP at 10 %, with everything a run can have; given out of order."""
    dense = fake("dense")
    dense.card["evaluations"] = [evaluation("clean", 900), evaluation("autoattack", 300, 500, eps=8 / 255)]
    dense.metrics = [epoch(0), epoch(1)]
    harp = fake("harp-1", "harp", (10, 5, 5))
    per_attack = {"apgd-ce": 0.45, "apgd-t": 0.431, "fab-t": 0.431, "square": 0.43}
    robust = evaluation("autoattack", 215, 500, eps=8 / 255, per_attack=per_attack, notes=["Square found nothing."])
    harp.card["evaluations"] = [evaluation("clean", 812), robust]
    layers = [{"conv1.weight": 0.1 / (i + 1), "conv2.weight": 0.01, "fc.weight": 0.005} for i in range(3)]
    harp.metrics = [epoch(i, density=0.1 / (i + 1), gamma=0.01 * (i + 1), layers=layers[i]) for i in range(3)]
    hydra = fake("hydra-1", "hydra", (1, 9, 10))
    hydra.card["evaluations"] = [evaluation("clean", 700), evaluation("autoattack", 200, 500, eps=8 / 255)]
    more = fake("harp-10", "harp", (60, 80, 60))
    for run in (dense, harp, hydra):
        run.examples = pictures()
    return [run.write() for run in (hydra, more, harp, dense)]


class Element:
    """An HTML element, just enough of it to assert on."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: "Element | None" = None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element | str] = []

    @property
    def text(self) -> str:
        """All text inside, with any white space (narrow ones as well) as single spaces."""
        joined = "".join(child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(joined.split())

    def walk(self) -> "Iterator[Element]":
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str = "", css: str = "") -> "list[Element]":
        return [
            each
            for each in self.walk()
            if tag in ("", each.tag) and (not css or css in (each.attributes.get("class") or "").split())
        ]

    def one(self, tag: str = "", css: str = "") -> "Element":
        found = self.all(tag, css)
        assert len(found) == 1, f"{len(found)} elements {tag}.{css}"
        return found[0]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.here = Element("", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self.here)
        self.here.children.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.here.children.append(Element(tag, dict(attrs), self.here))

    def handle_endtag(self, tag: str) -> None:
        assert self.here.tag == tag, f"</{tag}> closes <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def parsed(html: str) -> Element:
    """The page as a tree; also asserts that every element is closed in its place."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert parser.here is parser.root, f"<{parser.here.tag}> is never closed"
    return parser.root


@pytest.fixture(name="evaluation")
def _evaluation() -> Callable[..., dict[str, Any]]:
    return evaluation


@pytest.fixture(name="epoch")
def _epoch() -> Callable[..., dict[str, Any]]:
    return epoch


@pytest.fixture(name="pictures")
def _pictures() -> Callable[..., dict[str, np.ndarray]]:
    return pictures


@pytest.fixture
def parse() -> Callable[[str], Element]:
    return parsed


@pytest.fixture
def page(tmp_path: Path) -> Callable[[list[Path]], Element]:
    """Write a report and take it apart."""

    def make(paths: list[Path]) -> Element:
        return parsed(write_report(paths, tmp_path / "report.html", date=DATE).read_text(encoding="utf-8"))

    return make
