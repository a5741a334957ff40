"""Checked access to JSON that somebody else wrote: every complaint names the file, the key and what was expected."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LARGEST_FILE_BYTES = 64 * 2**20  # a card has kilobytes, the metrics of a very long run a few megabytes
LARGEST_COUNT = 2**53  # what every JSON reader can represent exactly


@dataclass(frozen=True)
class Fields:
    """One JSON object and where it stands ("runs/a/card.json, evaluations[0]")."""

    where: str
    values: Mapping[str, Any]

    def fail(self, key: str, expected: str) -> NoReturn:
        value = repr(self.values[key]) if key in self.values else "missing"
        raise ValueError(f"{self.where}: {key} is {value[:80]}, expected {expected}")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        value = self.values.get(key)
        return value if isinstance(value, str) else self.fail(key, "a text")

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.fail(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def count(self, key: str, high: int = LARGEST_COUNT) -> int:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            self.fail(key, f"a whole number from 0 to {high}")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        return value if isinstance(value, bool) else self.fail(key, "true or false")

    def fields(self, key: str) -> "Fields":
        """The object at `key`; an empty one when the key is missing or null."""
        value = self.values.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            self.fail(key, "an object")
        return Fields(f"{self.where}, {key}", value)

    def records(self, key: str) -> tuple["Fields", ...]:
        """The list of objects at `key`; empty when the key is missing or null."""
        values = self._list(key, dict, "a list of objects")
        return tuple(Fields(f"{self.where}, {key}[{i}]", value) for i, value in enumerate(values))

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self._list(key, str, "a list of texts"))

    def counts(self, key: str) -> tuple[int, ...]:
        """The list of whole numbers from 0 at `key`."""
        values = self.values.get(key)
        if not isinstance(values, list) or not all(type(each) is int and 0 <= each <= LARGEST_COUNT for each in values):
            self.fail(key, f"a list of whole numbers from 0 to {LARGEST_COUNT}")
        return tuple(values)

    def rows(self, key: str, width: int) -> tuple[list[int | float], ...]:
        """The list of lists of so many numbers at `key`; empty when the key is missing or null."""
        values = self._list(key, list, f"a list of lists of {width} numbers")
        for row in values:
            if len(row) != width or not all(
                isinstance(each, int | float) and not isinstance(each, bool) for each in row
            ):
                self.fail(key, f"a list of lists of {width} numbers")
        return tuple(values)

    def _list(self, key: str, kind: type, expected: str) -> list[Any]:
        values = [] if self.values.get(key) is None else self.values[key]
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            self.fail(key, expected)
        return values


def read_text(path: Path) -> str:
    size_bytes = path.stat().st_size
    if size_bytes > LARGEST_FILE_BYTES:
        raise ValueError(f"{path}: {size_bytes} bytes, expected at most {LARGEST_FILE_BYTES}; is it the right file?")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def parse_object(text: str, where: str) -> Fields:
    """Parse one JSON object. NaN and Infinity, which are not JSON, are refused.

    Raises ValueError naming `where` when the text is truncated, nested beyond reason or not an object.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{where}: nested too deeply to be one of ours") from None
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON, truncated or damaged ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: a JSON {type(value).__name__}, expected an object")
    return Fields(where, value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
