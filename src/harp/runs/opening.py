"""Opening a finished run: the names of its files, its recipe, and the seed of its validation split, read once."""

from dataclasses import dataclass
from pathlib import Path

from harp.files import read_json
from harp.recipes import Recipe, recipe_in
from harp.runs.directory import RunDirectory


@dataclass(frozen=True)
class FinishedRun:
    """A run that is finished, with the recipe that it was made with."""

    directory: RunDirectory
    recipe: Recipe
    split_seed: int
    """The seed that cut off the validation split for its first ancestor, and so for all that follow from it.

    A child with another seed must not be evaluated on validation images that its parent was trained on.
    """

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def pruned(self) -> bool:
        return self.directory.masks.exists() or self.directory.widths.exists()


def open_run(path: Path) -> FinishedRun:
    """The finished run at ``path``. Raises ValueError saying what is missing and which command makes it."""
    if path.is_file():
        raise ValueError(
            f"{path} is a file, and no run directory: an exported network has no trainable parent in it; name the run that "
            "it was exported from"
        )
    run = RunDirectory(path)
    if not run.recipe.exists():
        raise ValueError(f"{path} is not a run directory: it has no {run.recipe.name}; `harp pretrain` makes one")
    if not run.finished:
        raise ValueError(
            f"{path} is not finished: it has no {run.card.name}; give the command that made it again to go on"
        )
    if not run.model.exists():
        raise ValueError(f"{path} has lost its {run.model.name}; make it again with --overwrite")
    recipe = recipe_in(run.recipe)
    seed = read_json(run.recipe).get("split_seed", recipe.seed)
    if type(seed) is not int:
        raise ValueError(f"split_seed={seed!r} in {run.recipe} must be a whole number; it is damaged")
    return FinishedRun(run, recipe, seed)


def open_dense(path: Path) -> FinishedRun:
    """The finished run at ``path``. Raises ValueError when it is pruned."""
    run = open_run(path)
    if run.pruned:
        raise ValueError(f"{path} is pruned already; prune the dense run that it came from")
    return run


def open_pruned(path: Path) -> FinishedRun:
    """The finished run at ``path``. Raises ValueError when it is not pruned."""
    run = open_run(path)
    if not run.pruned:
        raise ValueError(f"{path} has no masks to keep; `harp prune {path}` makes a pruned run to finetune")
    return run
