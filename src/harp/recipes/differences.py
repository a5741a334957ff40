"""Settings as the flags that set them: what two recipes differ in, in the words of a command line."""

from collections.abc import Iterator, Mapping
from typing import Any


def flat(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """A recipe in JSON with one entry a setting, by its dotted name: ``{"prune.keep": 0.01, …}``."""
    entries: dict[str, Any] = {}
    for name, value in settings.items():
        entries |= flat(value, f"{group}{name}.") if isinstance(value, dict) else {f"{group}{name}": value}
    return entries


def changes(start: Mapping[str, Any], end: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``end`` that ``start`` does not have, or has otherwise."""
    return {name: value for name, value in end.items() if name not in start or start[name] != value}


def flags(settings: Mapping[str, Any]) -> Iterator[str]:
    """The words that set each entry, by the name of its flag."""
    for name, value in settings.items():
        group, dot, last = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            yield f"--{group}{dot}{'' if value else 'no-'}{last}"
        else:
            yield f"--{group}{dot}{last}"
            yield from map(str, value) if isinstance(value, list) else (str(value),)
