"""A run directory, read and checked: card.json, metrics.jsonl, recipe.json. Nothing is written and nothing unpickled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harp.cards import Card, Fields, parse_object, read_card, read_text
from harp.recipes import data_title
from harp.report.examples import Examples, read_examples


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.jsonl; what the run did not record is None."""

    epoch: int
    loss: float | None
    train_accuracy: float | None
    clean_accuracy: float | None
    robust_accuracy: float | None
    density: float | None
    gamma: float | None
    layers: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Run(Card):
    """The card of a run, and what is read of the other files beside it."""

    path: Path
    home: Path  # resolved, so that parents are found
    parent_home: Path | None
    epochs: tuple[Epoch, ...]
    recipe: Mapping[str, Any]
    examples: Examples | None

    @property
    def fractions(self) -> Mapping[str, Any]:
        """How learned keep fractions came to the budget; empty where none were."""
        return self.values.get("fractions") or {}


def is_run(path: Path) -> bool:
    return (path / "card.json").is_file()


def read_run(path: Path) -> Run:
    """Read one run directory. Metrics, recipe, evaluations and examples may be missing; a card may not.

    Raises ValueError when `path` is not a run, or naming the file and the entry that is damaged or out of range.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not a directory; expected a run directory, with a card.json")
    if not is_run(path):
        raise ValueError(f"{path} is not a run: it has no card.json (a stage writes it when it ends)")
    card = read_card(path / "card.json")
    recipe = _recipe(path / "recipe.json")
    known = vars(card) | {"data": _data(card.data, recipe), "environment": _plain(card.environment)}
    return Run(
        **known,
        path=path,
        home=path.resolve(),
        parent_home=_parent_home(path, card.parent),
        epochs=_epochs(path / "metrics.jsonl"),
        recipe=recipe,
        examples=read_examples(path / "evaluations", classes=len(card.classes)),
    )


def _parent_home(path: Path, parent: str | None) -> Path | None:
    if parent is None:
        return None
    try:
        return (path / parent).resolve()
    except (ValueError, OSError) as error:  # a null byte, a loop of links
        raise ValueError(
            f"{path / 'card.json'}: parent is {parent[:80]!r}, expected a path relative to the run directory"
        ) from error


def _plain(values: Mapping[str, Any]) -> Mapping[str, str]:
    known = {key: value for key, value in values.items() if value is not None}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}


def _epochs(path: Path) -> tuple[Epoch, ...]:
    if not path.is_file():
        return ()
    epochs: list[Epoch] = []
    text = read_text(path).removesuffix("\n")
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        fields = parse_object(line, f"{path}, line {number}")
        epochs.append(_epoch(fields))
        if len(epochs) > 1 and epochs[-1].epoch <= epochs[-2].epoch:
            fields.fail("epoch", f"more than the {epochs[-2].epoch} of the line before")
    return tuple(epochs)


def _epoch(fields: Fields) -> Epoch:
    def fraction(key: str) -> float | None:
        return fields.number(key, 0.0, 1.0) if fields.has(key) else None

    layers = fields.fields("layers")
    return Epoch(
        epoch=fields.count("epoch"),
        loss=fields.number("loss", -1e30, 1e30) if fields.has("loss") else None,
        train_accuracy=fraction("train_accuracy"),
        clean_accuracy=fraction("clean_accuracy"),
        robust_accuracy=fraction("robust_accuracy"),
        density=fraction("density"),
        gamma=fields.number("gamma", 0.0, 1e30) if fields.has("gamma") else None,
        layers={name: layers.number(name, 0.0, 1.0) for name in layers.values},
    )


def _data(named: str, recipe: Mapping[str, Any]) -> str:
    """Older cards call any folder "folder"; the recipe knows which."""
    task = recipe.get("recipe", {}).get("task") if isinstance(recipe.get("recipe"), dict) else None
    root = task.get("root") if isinstance(task, dict) else None
    return data_title(named, root if isinstance(root, str) else None)


def _recipe(path: Path) -> Mapping[str, Any]:
    return parse_object(read_text(path), str(path)).values if path.is_file() else {}
