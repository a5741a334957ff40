"""card.json: what a finished run says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harp.cards.corruptions import Corruptions, read_corruptions
from harp.cards.evaluation import Evaluation
from harp.cards.fields import Fields, parse_object, read_text

CARD_FORMAT = 1


@dataclass(frozen=True)
class LayerCounts:
    kept: int
    total: int


@dataclass(frozen=True, eq=False)
class Card:
    """The entries that are read again, checked, and all of them in ``values``, as they were written.

    Compared by identity: two runs with the same card are still two runs.
    """

    name: str
    stage: str
    method: str | None
    """None: dense."""
    parent: str | None
    """Relative to the run directory."""
    data: str
    model: str
    classes: tuple[str, ...]
    kept: int
    total: int
    keep: float
    layers: Mapping[str, LayerCounts]
    seed: int | None
    elapsed_s: float | None
    environment: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]
    corruptions: Corruptions | None
    """None: not evaluated under them."""
    values: Mapping[str, Any]


def read_card(path: Path) -> Card:
    """The card in this file. Raises ValueError naming the file, the entry that is wrong, and what was expected."""
    card = parse_object(read_text(path), str(path))
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
    return Card(
        name=card.text("name"),
        stage=card.text("stage"),
        method=card.text("method") if card.has("method") else None,
        parent=card.text("parent") if card.has("parent") else None,
        data=card.text("data"),
        model=card.text("model"),
        classes=card.texts("classes"),
        kept=kept,
        total=total,
        keep=keep,
        layers=layers,
        seed=card.count("seed") if card.has("seed") else None,
        elapsed_s=card.number("elapsed_s", 0.0) if card.has("elapsed_s") else None,
        environment=card.fields("environment").values,
        evaluations=tuple(Evaluation.from_json(found.values, found.where) for found in card.records("evaluations")),
        corruptions=read_corruptions(card.fields("corruptions")) if card.has("corruptions") else None,
        values=card.values,
    )


def _layer(layers: Fields, name: str) -> LayerCounts:
    fields = layers.fields(name)
    total = fields.count("total")
    return LayerCounts(kept=fields.count("kept", high=total), total=total)
