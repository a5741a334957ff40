"""Recipes as some commands show them: without the flags that they refuse."""

from dataclasses import dataclass, field, fields
from typing import Any

from tyro.conf import Suppress

from harp.recipes import Granularity, Pruning, Recipe


@dataclass(frozen=True)
class AnyMethod(Pruning):
    """How a network is pruned."""

    method: Suppress[str] = "harp"


@dataclass(frozen=True)
class AnyNetwork(AnyMethod):
    """How a network is pruned."""

    keep: Suppress[float] = 0.01
    granularity: Suppress[Granularity] = "weight"


@dataclass(frozen=True)
class OfMethods(Recipe):
    """What ``harp run`` varies is named in the plural."""

    prune: AnyMethod = field(default_factory=AnyMethod)


@dataclass(frozen=True)
class OfCells(Recipe):
    """What ``harp compare`` varies is named in the plural."""

    prune: AnyNetwork = field(default_factory=AnyNetwork)
    seed: Suppress[int] = 0


def of_methods(recipe: Recipe) -> OfMethods:
    return OfMethods(**{**_settings(recipe), "prune": AnyMethod(**_settings(recipe.prune))})


def of_cells(recipe: Recipe) -> OfCells:
    return OfCells(**{**_settings(recipe), "prune": AnyNetwork(**_settings(recipe.prune))})


def plain(shown: Recipe) -> Recipe:
    """The recipe itself again."""
    return Recipe(**{**_settings(shown), "prune": Pruning(**_settings(shown.prune))})


def refuse_single(arguments: list[str], plurals: dict[str, str]) -> None:
    """Raise ValueError for a flag of one network where the command makes several."""
    for one, several in plurals.items():
        if any(word == one or word.startswith(f"{one}=") for word in arguments):
            raise ValueError(f"{one} is for a single run; here name {several}")


def _settings(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}
