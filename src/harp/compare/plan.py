"""What to compare: one cell per combination, each with its own recipe and command line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harp.compare.grid import Choices, Key, Point, TuneAxis, label, points_of, recipe_at
from harp.cost.passes import passes
from harp.recipes import PRESETS, Granularity, Recipe, normal_spelling, recipe_in
from harp.runs.directory import RunDirectory
from harp.stages.attacks import attacks_of
from harp.stages.pipeline import FINAL, MASKS


@dataclass(frozen=True)
class Cell:
    """One network to prune from a parent run, to finetune and to evaluate; ``out`` is the folder of its two runs."""

    name: str
    method: str
    parent: Path
    out: Path
    recipe: Recipe
    point: Point = ()
    """The settings that were tuned."""

    @property
    def key(self) -> Key:
        return self.method, self.recipe.prune.keep, self.recipe.prune.granularity

    @property
    def masks(self) -> Path:
        return self.out / MASKS

    @property
    def final(self) -> Path:
        return self.out / FINAL

    @property
    def passes(self) -> int | float:
        """Forward and backward passes for each training image."""
        return passes(self.recipe).total


@dataclass(frozen=True)
class ComparePlan:
    """All settings of a comparison; ``recipe`` holds what all cells share.

    ``parents`` are dense runs, which the seeds use in turn. If there are none, ``preset`` names the recipe to train one
    parent per seed. ``baseline`` is one of the methods; None is hydra, or the first method if hydra is not among them.
    ``tune`` is a grid of settings to choose from for each method; there are no cells before there are ``choices``.
    """

    recipe: Recipe
    out: Path
    methods: tuple[str, ...]
    keeps: tuple[float, ...]
    granularities: tuple[Granularity, ...] = ("weight",)
    seeds: tuple[int, ...] = (0, 1, 2)
    baseline: str | None = None
    parents: tuple[Path, ...] = ()
    preset: str = ""
    tune: tuple[TuneAxis, ...] = ()
    choices: Choices = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Further columns of the results, of `harp.report.compare_columns.EXTRA_COLUMNS`."""

    def __post_init__(self) -> None:
        for name in ("methods", "keeps", "granularities", "seeds"):
            _check_distinct(name, getattr(self, name))
        _check_distinct("methods", self.spellings)
        if self.parents == () and not self.preset:
            raise ValueError("parents is empty: name a dense run, or the preset to train one with")
        if len(self.parents) > len(self.seeds):
            raise ValueError(f"{len(self.parents)} parents for seeds={self.seeds}: name a seed for each of them")
        if self.baseline is not None and normal_spelling(self.baseline) not in self.spellings:
            raise ValueError(f"baseline={self.baseline!r} must be one of the methods: {', '.join(self.spellings)}")
        attacks_of(self.recipe.test, self.recipe)
        names = [cell.name for cell in self.trials or self.cells]  # makes every recipe, so that each setting is checked
        if len(set(names)) < len(names):
            raise ValueError(f"keeps={self.keeps} has two that agree to six digits, by which runs are named")

    @property
    def spellings(self) -> tuple[str, ...]:
        return tuple(normal_spelling(method) for method in self.methods)

    @property
    def reference(self) -> str:
        """The method that differences are to."""
        if self.baseline is not None:
            return normal_spelling(self.baseline)
        return "hydra" if "hydra" in self.spellings else self.spellings[0]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Seed by seed, so that a stopped comparison has whole ones to show."""
        if not self.tune:
            return tuple(self._cell(*key, seed, ()) for key, seed in self._keys())
        return tuple(self._cell(*key, seed, self.choices[key]) for key, seed in self._keys() if key in self.choices)

    @property
    def trials(self) -> tuple[Cell, ...]:
        """Every point of the grid for every cell: to be pruned and finetuned, and not to be tested."""
        if not self.tune:
            return ()
        return tuple(
            self._cell(*key, seed, point)
            for key, seed in self._keys()
            for point in points_of(self.tune, self._shared(*key[1:], seed), key[0])
        )

    def _keys(self) -> Iterator[tuple[tuple[str, float, Granularity], int]]:
        for seed in self.seeds:
            for keep in sorted(self.keeps, reverse=True):
                for granularity in self.granularities:
                    for method in self.spellings:
                        yield (method, keep, granularity), seed

    @property
    def dense(self) -> dict[Path, int]:
        """The parents, with the first seed that starts from each."""
        firsts: dict[Path, int] = {}
        for seed in self.seeds:
            firsts.setdefault(self.parent_of(seed), seed)
        return firsts

    def parent_of(self, seed: int) -> Path:
        if self.parents:
            return self.parents[self.seeds.index(seed) % len(self.parents)]
        return self.out / f"dense-s{seed}"

    def recipe_of_parent(self, seed: int) -> Recipe:
        """That of the run, or the one it will have."""
        if self.parents:
            return recipe_in(RunDirectory(self.parent_of(seed)).recipe)
        mine = self.recipe
        start = PRESETS[self.preset][1]
        return replace(start, task=mine.task, pretrain=mine.pretrain, compute=mine.compute, seed=seed)

    def _shared(self, keep: float, granularity: Granularity, seed: int) -> Recipe:
        return replace(self.recipe, seed=seed, prune=self.recipe.prune.at(keep, granularity))

    def _cell(self, method: str, keep: float, granularity: Granularity, seed: int, point: Point) -> Cell:
        shared = self._shared(keep, granularity, seed)
        name = f"{method}-{keep:g}{f'-{granularity}' if shared.prune.of_channels else ''}-s{seed}"
        name += f"@{label(point)}" if point else ""
        return Cell(name, method, self.parent_of(seed), self.out / name, recipe_at(point, shared, method), point)


def _check_distinct(name: str, values: Sequence[Any]) -> None:
    if not values:
        raise ValueError(f"{name} is empty: name at least one")
    twice = list(dict.fromkeys(value for value in values if values.count(value) > 1))
    if twice:
        raise ValueError(f"{name} names {', '.join(map(str, twice))} twice")
