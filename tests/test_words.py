"""One word for one thing: what the glossary retires is no part of a public name in src."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "harp"
GLOSSARY = ROOT / "docs" / "glossary.md"

ALLOWED = {
    "measure": "a noun: what a budget on channels counts (MACs or parameters); recipe.json files and --prune.measure use it",
}
"""Public names that may use a retired word, each with the reason."""


def retired() -> dict[str, str]:
    """The retired words of the glossary, each with the word to use instead."""
    table = GLOSSARY.read_text(encoding="utf-8").partition("## Retired words\n")[2]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    return {word: better.strip() for old, better in rows[1:] for word in re.findall(r"\w+", old)}


def words_of(name: str) -> set[str]:
    """``"CompareFlags"`` and ``"compare_flags"`` are both made of compare and flags."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def public_names(path: Path, source: str) -> Iterator[str]:
    """The module, its classes and functions, and the methods and fields of its classes: fields are settings and flags."""
    yield path.stem
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (each.name for each in node.body if isinstance(each, ast.FunctionDef))
            fields = (each.target for each in node.body if isinstance(each, ast.AnnAssign))
            yield from (field.id for field in fields if isinstance(field, ast.Name))


def misnamed(path: Path, source: str) -> list[str]:
    """One line for each public name that uses a retired word."""
    words = retired()
    names = [name for name in public_names(path, source) if not name.startswith("_") and name not in ALLOWED]
    found = [(name, word) for name in names for word in sorted(words_of(name) & words.keys())]
    return [f"{path.name}: {name} uses {word!r}; say {words[word]}" for name, word in found]


def test_no_public_name_uses_a_retired_word():
    found = [line for path in sorted(SOURCE.rglob("*.py")) for line in misnamed(path, path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("sweep.py", ""),
        ("run.py", "def judge(run): ..."),
        ("run.py", "class Forecast: ..."),
        ("run.py", "class Plan:\n    def foresee_all(self): ..."),
        ("run.py", "class Flags:\n    comparison: str = ''"),
    ],
)
def test_a_module_a_function_a_class_a_method_and_a_flag_are_looked_at(name: str, source: str):
    assert len(misnamed(Path(name), source)) == 1


def test_private_names_and_longer_words_are_left_alone():
    assert misnamed(Path("run.py"), "def _judge(run): ...\ndef measured_s(run): ...\nclass Tested: ...") == []


def test_every_exception_is_still_needed():
    names = {name for path in SOURCE.rglob("*.py") for name in public_names(path, path.read_text(encoding="utf-8"))}
    assert {name for name in ALLOWED if words_of(name) & retired().keys() and name in names} == set(ALLOWED)
