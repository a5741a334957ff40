"""Values of Python as text of C: numbers, tables, strings, comments, names. Whatever a card says stays harmless."""

import re
from collections.abc import Iterable

import numpy as np

_WIDTH = 112
_LONGEST = 4095
"""Characters that every compiler of C99 takes in one string."""


def number(value: float) -> str:
    """A float constant that reads back as the same float. Raises ValueError where there is none."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not np.isfinite(single):
        raise ValueError(f"{value!r} is not a finite float32: it cannot be a constant of C")
    text = np.format_float_scientific(single, unique=True, trim="0") if single else "0.0"
    plain = np.format_float_positional(single, unique=True, trim="0")
    return f"{plain if len(plain) <= len(text) else text}f"


def table(kind: str, name: str, values: Iterable[str]) -> str:
    """A constant array. An empty one has a zero: C knows no array of length 0."""
    return f"static const {kind} {name}[] = {{\n{_filled(values)}\n}};\n"


def _filled(values: Iterable[str]) -> str:
    lines = [" "]
    for value in values:
        if len(lines[-1]) + len(value) + 2 > _WIDTH:
            lines.append(" ")
        lines[-1] += f" {value},"
    return "\n".join(lines if lines[0].strip() else ["  0"])


def string(text: str) -> str:
    """A string constant in UTF-8. Everything that is not a plain letter or sign is an octal escape."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) > _LONGEST or b"\0" in encoded:
        raise ValueError(
            f"{text[:40]!r}… has {len(encoded):,} bytes: expected a name of at most {_LONGEST:,}, none of them 0"
        )
    return '"' + "".join(chr(byte) if _is_plain(byte) else f"\\{byte:03o}" for byte in encoded) + '"'


def _is_plain(byte: int) -> bool:
    """A question mark is none: two of them begin a trigraph."""
    return 0x20 <= byte < 0x7F and chr(byte) not in '"\\?'


def comment_text(text: str) -> str:
    """Any text such that it can stand in a comment, on one line."""
    shown = "".join(letter if " " <= letter <= "~" and letter not in "\\" else "?" for letter in text)
    return re.sub(r"\?(?=\?)", "? ", shown.replace("*/", "* /").replace("/*", "/ *"))


def identifier(stem: str) -> str:
    """What all names of a file begin with."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII).strip("_")
    return name if re.match(r"[A-Za-z]", name) else f"net_{name}".rstrip("_")
