"""How an attack was run, beyond its name: in words, and as cards of earlier versions put it."""

from collections.abc import Mapping
from typing import Any

_STEPS, _NO_START = "steps of ", "no random start"
"""How the notes began that said it before there were fields for it."""


def how_words(step_size: float | None, random_start: bool, restarts: int) -> tuple[str, ...]:
    """What differs from the default, one phrase each; nothing for an attack by the book."""
    words = [
        "" if step_size is None else f"{_STEPS}{step_size:g}",
        "" if random_start else _NO_START,
        "" if restarts == 1 else f"{restarts} restarts",
    ]
    return tuple(word for word in words if word)


def threat_words(norm: str, eps: float) -> str:
    """Norm and radius as people write them: ``"linf 8/255"``, ``"l2 0.5"``."""
    return f"{norm} {eps * 255:.4g}/255" if norm == "linf" else f"{norm} {eps:g}"


def chance_words(chance: float) -> str:
    """What is said of a network that may be no better than a constant answer."""
    return f"not separably above chance: one and the same answer is right for {100 * chance:.1f} % of the images"


def with_fields(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation from a card, in which step size, random start and restarts are fields.

    Before they were, a note said them; it is read once more, here, and taken out. What is no evaluation stays as it is.
    """
    record = {"right": "", "chance": None, "step_size": None, "random_start": True, "restarts": 1, **evaluation}
    record.setdefault("engine", "torch")  # before there was a choice
    notes = evaluation.get("notes")
    if "step_size" in evaluation or not isinstance(notes, list):
        return record
    for note in notes:
        if note == _NO_START:  # only FGSM was run that way, whose one step is as long as the radius
            record |= {"random_start": False, "step_size": evaluation.get("eps") or 1.0}
        elif isinstance(note, str) and note.startswith(_STEPS):
            record |= {"step_size": _number(note.removeprefix(_STEPS))}
    record["notes"] = [note for note in notes if note != _NO_START and not str(note).startswith(_STEPS)]
    return record


def _number(text: str) -> float | str:
    """The text itself where it is no number, for the reader to complain of."""
    try:
        return float(text)
    except ValueError:
        return text
