"""Recipes as plain JSON values and back, every field checked."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harp.recipes.methods import register_name
from harp.recipes.settings import Recipe

MOST_BYTES = 2**20


def to_json(value: Any) -> Any:
    """A recipe (or part of one) as plain JSON values."""
    return _plain(asdict(value))


def _plain(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _plain(inner) for key, inner in item.items()}
    if isinstance(item, (list, tuple)):
        return [_plain(inner) for inner in item]
    return str(item) if isinstance(item, Path) else item


def from_json(kind: Callable[..., Any], value: Any, where: str = "recipe") -> Any:
    """The recipe that :func:`to_json` wrote. Raises ValueError naming an unknown field or a value of a wrong type."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {value!r}")
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - {f.name for f in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{where} has unknown fields {unknown}; it was written by another version of harp")
    return kind(**{name: _typed(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in options:
            return None
        return _typed(next(o for o in options if o is not type(None)), value, where)
    if origin is Literal:
        if type(value) is str and value in options:
            return value
        raise ValueError(f"{where}={value!r} must be one of {', '.join(map(repr, options))}")
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(options[0], item, where) for item in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{where} is a number of {len(str(value))} digits, too large for a float") from error
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if isinstance(hint, type) and hint not in (Path, float, int, str, bool) and origin is None:
        return from_json(hint, value, where)
    raise ValueError(f"{where}={value!r} is not of type {getattr(hint, '__name__', hint)}")


def recipe_in(file: Path) -> Recipe:
    """The recipe of the run whose ``recipe.json`` this is; needs no torch. Raises ValueError naming the file."""
    if not file.is_file():
        raise ValueError(f"{file.parent} is not a run directory: it has no {file.name}; `harp pretrain` makes one")
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has {file.stat().st_size:,} bytes, a recipe less than {MOST_BYTES:,}")
        record = json.loads(file.read_text(encoding="utf-8"))
        _meet_method(record["recipe"])
        return from_json(Recipe, record["recipe"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged or not written by harp: {error}") from error


def _meet_method(recipe: Any) -> None:
    """What a run was pruned by need not be known where its network is only finetuned, evaluated or exported."""
    match recipe:
        case {"prune": {"method": str(name)}}:
            register_name(name)
