"""What is said of a result, and whether that is a reason to doubt it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """A sentence for the card. ``doubt`` is the kind of doubt that it raises, one of `harp.attacks.settled.DOUBTS`, or empty."""

    text: str
    doubt: str = ""


def texts(notes: Iterable[Note]) -> list[str]:
    return [note.text for note in notes]


def doubts(notes: Iterable[Note]) -> list[str]:
    """The kinds of doubt that the notes raise, each once."""
    return list(dict.fromkeys(note.doubt for note in notes if note.doubt))
