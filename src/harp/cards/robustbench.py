"""An entry of RobustBench's model_info from a card: what is known is filled in, the rest is null."""

from typing import Any

from harp.cards.card import Card
from harp.cards.evaluation import Evaluation

IMAGES = 10_000
"""What the leaderboard asks for; of ImageNet, 5,000."""


def robustbench_entry(card: Card) -> dict[str, Any]:
    """Clean and AutoAttack accuracy of the same images, those of which there are most.

    A settled accuracy below that of AutoAttack goes to ``external``, which the leaderboard ranks by where it is there.
    Raises ValueError when the card has no accuracy under AutoAttack.
    """
    attacked = max((e for e in card.evaluations if e.attack == "autoattack"), key=lambda e: e.images, default=None)
    if attacked is None or attacked.eps is None:
        raise ValueError(
            f"{card.name} has no accuracy under AutoAttack: harp evaluate RUN --protocol robustbench makes one"
        )
    clean = next((e for e in reversed(card.evaluations) if _is(e, "clean", attacked, threat=False)), None)
    settled = next((e for e in reversed(card.evaluations) if _is(e, "settled", attacked, threat=True)), None)
    entry: dict[str, Any] = {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": card.data,
        "venue": None,
        "architecture": card.model,
        "eps": _radius(attacked),
        "clean_acc": None if clean is None else _percent(clean),
        "reported": None,
        "autoattack_acc": _percent(attacked),
        "footnote": _footnote(card, attacked),
    }
    if settled is not None and settled.correct < attacked.correct:
        entry["external"] = _percent(settled)
    return entry


def _is(found: Evaluation, attack: str, other: Evaluation, *, threat: bool) -> bool:
    same = (found.norm, found.eps) == (other.norm, other.eps) or not threat
    return found.attack == attack and found.images == other.images and same


def _percent(found: Evaluation) -> str:
    return f"{100 * found.accuracy:.2f}"


def _radius(found: Evaluation) -> str:
    """As the leaderboard writes it: ``"8/255"``, ``"0.5"``."""
    eps = found.eps or 0.0
    levels = round(eps * 255)
    return f"{levels}/255" if found.norm == "linf" and abs(eps * 255 - levels) < 1e-6 else f"{eps:g}"


def _footnote(card: Card, attacked: Evaluation) -> str:
    """What the leaderboard has no field for."""
    kept = f"{card.kept:,} of {card.total:,} weights kept" if card.method else "dense"
    few = "" if attacked.images >= IMAGES else f"; on {attacked.images:,} test images, the leaderboard wants {IMAGES:,}"
    return f"{kept}{few}"
