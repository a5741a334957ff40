"""The settings that a comparison tunes: a grid, and the points of it that make a difference for a method."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from harp.cost.passes import equalised, learns
from harp.recipes import Recipe, respelled, with_setting

Point = tuple[tuple[str, str], ...]
"""A value for each setting that is tuned, by its name: ``(("finetune.lr", "0.03"),)``; empty where nothing is."""
Key = tuple[str, float, str]
"""Method, keep, granularity: what one point is chosen for, over all seeds."""
Choices = Mapping[Key, Point]


@dataclass(frozen=True)
class TuneAxis:
    """A setting and the values to try; the first stands where it makes no difference."""

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(
                f"tune={self.name} {' '.join(self.values)} has nothing to choose from: give two values or more"
            )
        for value in self.values:
            with_setting(Recipe(), self.name, value)


def axes_of(words: tuple[tuple[str, ...], ...]) -> tuple[TuneAxis, ...]:
    """The axes of ``--tune NAME VALUE VALUE``, given any number of times. Raises ValueError for what is not one."""
    axes = tuple(TuneAxis(name.replace("-", "_"), tuple(values)) for name, *values in words if name)
    names = [axis.name for axis in axes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"tune names {', '.join(twice)} twice: give all of its values at once")
    return axes


def recipe_at(point: Point, shared: Recipe, method: str) -> Recipe:
    """The shared recipe with this method, exactly its plug-ins, and the point's settings; as many passes as any other."""
    mine = shared
    for name, value in point:
        mine = with_setting(mine, name, value)
    return equalised(respelled(mine, method), shared)


def points_of(axes: tuple[TuneAxis, ...], shared: Recipe, method: str) -> Iterator[Point]:
    """The points of the grid at which a method has different recipes: the same grid for every method.

    Where nothing is learned in the prune stage its settings make none.
    """
    idle = not learns(method.partition("+")[0])
    values = [axis.values[:1] if idle and axis.name.startswith("prune.") else axis.values for axis in axes]
    seen: list[Recipe] = []
    for chosen in product(*values):
        point = tuple((axis.name, value) for axis, value in zip(axes, chosen, strict=True))
        recipe = recipe_at(point, shared, method)
        if recipe not in seen:
            seen.append(recipe)
            yield point


def label(point: Point) -> str:
    """As it stands in names of runs: ``"finetune.lr=0.03,prune.lr=0.1"``."""
    return ",".join(f"{name}={value.replace('/', '÷')}" for name, value in point)
