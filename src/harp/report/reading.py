"""A run directory, read and checked: card.json, metrics.jsonl, recipe.json. Nothing is written and nothing unpickled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harp.recipes import data_title, with_fields
from harp.report.examples import Examples, read_examples
from harp.report.fields import Fields, parse_object, read_text

CARD_FORMAT = 1
ROUNDING = 1e-4  # how far an accuracy may be from correct / images: half precision somewhere, never a whole image


@dataclass(frozen=True)
class Evaluation:
    """Accuracy under one attack, with its 95 % interval. `norm` and `eps` are None for clean images."""

    attack: str
    norm: str | None
    eps: float | None
    images: int
    accuracy: float
    low: float
    high: float
    per_attack: Mapping[str, float]
    notes: tuple[str, ...]
    step_size: float | None = None
    random_start: bool = True
    restarts: int = 1
    chance: float | None = None

    @property
    def at_chance(self) -> bool:
        """Whether always giving one answer could be as good, on clean images, as far as the interval tells."""
        return self.attack == "clean" and self.chance is not None and self.low <= self.chance


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


@dataclass(frozen=True)
class Layer:
    kept: int
    total: int


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory. Compared by identity: two runs with the same card are still two runs."""

    path: Path
    parent: str | None  # as the card has it, relative to the run directory
    home: Path  # resolved, so that parents are found
    parent_home: Path | None
    name: str
    stage: str
    method: str | None  # None: dense
    data: str
    model: str
    classes: tuple[str, ...]
    kept: int
    total: int
    keep: float
    layers: Mapping[str, Layer]
    seed: int | None
    elapsed_s: float | None
    environment: Mapping[str, str]
    evaluations: tuple[Evaluation, ...]
    epochs: tuple[Epoch, ...]
    recipe: Mapping[str, Any]
    examples: Examples | None


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
    card = parse_object(read_text(path / "card.json"), str(path / "card.json"))
    if card.values.get("format") != CARD_FORMAT:
        card.fail("format", f"{CARD_FORMAT}, the only format this version of harp reads")
    layers = {name: _layer(card.fields("layers"), name) for name in card.fields("layers").values}
    kept, total = card.count("kept", high=card.count("total")), card.count("total")
    removed = sum(layer.total - layer.kept for layer in layers.values())  # layers left out of pruning remove nothing
    if layers and total - kept != removed:
        card.fail("kept", f"{total - removed}: total {total} less the {removed} that its layers removed")
    keep = card.number("keep", 0.0, 1.0)
    if keep == 0:
        card.fail("keep", "a fraction above 0")
    recipe = _recipe(path / "recipe.json")
    return Run(
        path=path,
        parent=card.text("parent") if card.has("parent") else None,
        home=path.resolve(),
        parent_home=_parent_home(path, card),
        name=card.text("name"),
        stage=card.text("stage"),
        method=card.text("method") if card.has("method") else None,
        data=_data(card.text("data"), recipe),
        model=card.text("model"),
        classes=card.texts("classes"),
        kept=kept,
        total=total,
        keep=keep,
        layers=layers,
        seed=card.count("seed") if card.has("seed") else None,
        elapsed_s=card.number("elapsed_s", 0.0) if card.has("elapsed_s") else None,
        environment=_plain(card.fields("environment").values),
        evaluations=tuple(_evaluation(fields) for fields in card.records("evaluations")),
        epochs=_epochs(path / "metrics.jsonl"),
        recipe=recipe,
        examples=read_examples(path / "evaluations", classes=len(card.texts("classes"))),
    )


def _parent_home(path: Path, card: Fields) -> Path | None:
    if not card.has("parent"):
        return None
    try:
        return (path / card.text("parent")).resolve()
    except (ValueError, OSError):  # a null byte, a loop of links
        card.fail("parent", "a path relative to the run directory")


def _plain(values: Mapping[str, Any]) -> Mapping[str, str]:
    known = {key: value for key, value in values.items() if value is not None}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}


def _layer(layers: Fields, name: str) -> Layer:
    fields = layers.fields(name)
    total = fields.count("total")
    return Layer(kept=fields.count("kept", high=total), total=total)


def _evaluation(fields: Fields) -> Evaluation:
    fields = Fields(fields.where, with_fields(fields.values))
    images = fields.count("images")
    if images == 0:
        fields.fail("images", "at least one image")
    accuracy = fields.number("accuracy", 0.0, 1.0)
    if abs(accuracy - fields.count("correct", high=images) / images) > ROUNDING:
        fields.fail("accuracy", f"correct / images = {fields.count('correct') / images:.6f}")
    per_attack = fields.fields("per_attack")
    return Evaluation(
        attack=fields.text("attack"),
        norm=fields.text("norm") if fields.has("norm") else None,
        eps=fields.number("eps", 0.0, 1e6) if fields.has("eps") else None,
        images=images,
        accuracy=accuracy,
        low=fields.number("low", 0.0, accuracy + ROUNDING),
        high=fields.number("high", accuracy - ROUNDING, 1.0),
        per_attack={name: per_attack.number(name, 0.0, 1.0) for name in per_attack.values},
        notes=fields.texts("notes"),
        step_size=fields.number("step_size", 0.0, 1e6) if fields.has("step_size") else None,
        random_start=fields.flag("random_start"),
        restarts=fields.count("restarts"),
        chance=fields.number("chance", 0.0, 1.0) if fields.has("chance") else None,
    )


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
