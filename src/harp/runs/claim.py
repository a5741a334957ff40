"""Whose a run directory is: only a stage of the same settings goes on there, and nothing that is not a run is deleted."""

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harp.files import PARTIAL, read_json, sha256_of, write_json
from harp.recipes import Recipe, from_json, to_json
from harp.runs.directory import RunDirectory
from harp.runs.opening import FinishedRun

_DECIDES = {
    "pretrain": ("task", "pretrain", "compute", "seed"),
    "prune": ("task", "prune", "compute", "seed"),
    "shrink": ("task", "prune"),
    "finetune": ("task", "prune", "finetune", "compute", "seed"),
}
"""stage → the parts of a recipe that decide what it makes; two runs that differ elsewhere are the same."""
_DECIDE_NOTHING = (
    "task.download",
    "compute.workers",
    "compute.devices",
    "compute.num_nodes",
    "compute.engine",
    "compute.log",
)
"""With another number of devices batch norm sees other batches, but a run must not hang on the machine that began it."""


class OtherRun(ValueError):
    """The directory holds a run of other settings."""


@dataclass(frozen=True)
class Claim:
    """A stage's right to a directory. It starts from the run ``parent``, from the checkpoint ``weights``, or from neither."""

    stage: str
    recipe: Recipe
    run: RunDirectory
    parent: Path | None = None
    weights: Path | None = None
    weights_key: str | None = None
    train_weights: bool = False
    split_seed: int = 0

    @property
    def parent_from_here(self) -> str | None:
        """The parent as the card names it: relative to the run, so that both can be moved together."""
        if self.parent is None:
            return None
        try:
            return Path(os.path.relpath(self.parent, self.run.path)).as_posix()
        except ValueError:  # on Windows, from one drive to another
            return self.parent.resolve().as_posix()

    @cached_property
    def record(self) -> dict[str, Any]:
        """What ``recipe.json`` says."""
        source = self.weights if self.parent is None else RunDirectory(self.parent).model
        return {
            "stage": self.stage,
            "parent": self.parent_from_here,
            "weights": None if self.weights is None else str(self.weights),
            "weights_key": self.weights_key,
            "train_weights": self.train_weights,
            "source_sha256": None if source is None else sha256_of(source),
            "split_seed": self.split_seed,
            "recipe": to_json(self.recipe),
        }

    def is_done(self, *, overwrite: bool = False) -> bool:
        """Whether this very run is finished already and may stay; changes nothing.

        Raises ValueError when the directory holds what is no run, or is the stage's own source, and OtherRun when it
        holds a run of other settings and must not be overwritten.
        """
        path = self.run.path
        if path.exists() and not path.is_dir():
            raise ValueError(f"out={path} is a file; name a directory")
        self._refuse_source()
        if not self.run.recipe.exists():
            if path.exists() and any(not entry.name.endswith(PARTIAL) for entry in path.iterdir()):
                raise ValueError(f"out={path} holds files that are not a run; name an empty or new directory")
            return False
        different = self._differences()
        if different and not overwrite:
            raise OtherRun(
                f"out={path} holds another run, which differs in {'; '.join(different)}; choose another --out, or "
                "--overwrite to replace that run"
            )
        return not different and not overwrite and self.run.finished

    def origin(self, *, overwrite: bool = False) -> RunDirectory | None:
        """The run whose inputs are to be those of today: this one where the stage goes on with it, else its parent."""
        if self.run.inputs.exists() and self.goes_on and not overwrite:
            return self.run
        return None if self.parent is None else RunDirectory(self.parent)

    @property
    def goes_on(self) -> bool:
        """Whether the directory holds this very stage, begun and not finished: then it goes on where it stopped."""
        return self.run.recipe.exists() and not self.run.finished and not self._differences()

    def begin(self, inputs: dict[str, Any] | None, *, anew: bool = False) -> None:
        """Make the directory this stage's: a finished or another run in it goes, an unfinished one is continued.

        That goes, too, if the stage is to begin ``anew``. ``inputs`` are noted beside the recipe.
        """
        if self.run.recipe.exists() and (anew or not self.goes_on):
            delete_run(self.run)
        remove_leftovers(self.run)
        if inputs is not None:
            write_json(self.run.inputs, inputs)
        if not self.run.recipe.exists():
            write_json(self.run.recipe, self.record)

    def settle(self) -> RunDirectory:
        """The finished run, without what was only needed on the way; a killed process may not have come to that."""
        shutil.rmtree(self.run.resume.parent, ignore_errors=True)
        remove_leftovers(self.run)
        return self.run

    def _differences(self) -> list[str]:
        theirs = read_json(self.run.recipe)
        if not isinstance(theirs.get("recipe"), dict) or "stage" not in theirs:
            raise ValueError(f"{self.run.recipe} was not written by harp; name an empty or new directory")
        mine = self.record
        # What older versions did not note cannot differ.
        mine = {key: value for key, value in mine.items() if key in theirs}
        theirs = {**theirs, "recipe": _as_written_now(theirs["recipe"])}
        return differences(_deciding(theirs, self.stage), _deciding(mine, self.stage))

    def _refuse_source(self) -> None:
        """To write where the stage reads would edit its input, or delete it."""
        if self.parent is not None and self.run.path.resolve() == self.parent.resolve():
            raise ValueError(
                f"out={self.run.path} is the run to start from; a stage never edits its input: name another"
            )
        inside = [entry.resolve() for entry in self.run.entries]
        if self.weights is not None and self.weights.resolve() in inside:
            raise ValueError(f"weights={self.weights} lies in out={self.run.path}; a stage never edits its input")


def claim_for_child(stage: str, recipe: Recipe, parent: FinishedRun, out: Path) -> Claim:
    """The claim of a stage that starts from a run. Raises ValueError when its recipe is about something else."""
    theirs, mine = parent.recipe.task, recipe.task
    for name in ("data", "image_size", "model", "mean", "std"):
        if getattr(theirs, name) != getattr(mine, name):
            wanted = f"must be that of {parent.path}: {getattr(theirs, name)!r}"
            raise ValueError(f"task.{name}={getattr(mine, name)!r} {wanted}")
    return Claim(stage, recipe, RunDirectory(out), parent=parent.path, split_seed=parent.split_seed)


def delete_run(run: RunDirectory) -> None:
    """Delete what harp writes into a run directory, and nothing else that lies there."""
    for entry in run.entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def remove_leftovers(run: RunDirectory) -> None:
    """Delete the half-written files that a killed process may have left."""
    for folder in (run.path, run.resume.parent, run.evaluations):
        for leftover in folder.glob(f".*{PARTIAL}"):
            leftover.unlink(missing_ok=True)


def differences(theirs: Any, mine: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, as ``"prune.keep (0.01 there, 0.02 here)"``."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        keys = list(dict.fromkeys([*theirs, *mine]))
        return [d for k in keys for d in differences(theirs.get(k), mine.get(k), f"{where}.{k}".lstrip("."))]
    if theirs == mine or where in _DECIDE_NOTHING:
        return []
    if where == "source_sha256":
        return ["the network it started from, which has changed since"]
    return [f"{where} ({theirs!r} there, {mine!r} here)"]


def _as_written_now(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose fields that an older version did not know have their defaults; of a newer version, as it is."""
    try:
        return to_json(from_json(Recipe, recipe))
    except ValueError:
        return recipe


def _deciding(record: dict[str, Any], stage: str) -> dict[str, Any]:
    parts = {name: record["recipe"].get(name) for name in _DECIDES[stage]}
    return {**{key: record[key] for key in record if key != "recipe"}, **parts}
