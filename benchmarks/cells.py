"""What the accuracy benchmarks share: cells (one method, keep and seed from one parent) run to a judged network."""

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from harp.environment import environment
from harp.files import read_json
from harp.recipes import Evaluating, Recipe
from harp.runs.directory import RunDirectory
from harp.stages import pipeline
from harp.stages.evaluate import evaluate_run
from harp.stages.pipeline import FINAL, recipe_for
from harp.stages.train import pretrain

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """One network to prune from a parent run, finetune and judge; ``out`` is the folder of its two runs."""

    parent: Path
    out: Path
    recipe: Recipe
    tests: tuple[Evaluating, ...]

    @property
    def final(self) -> Path:
        return self.out / FINAL


@dataclass(frozen=True)
class Parent:
    """A dense network to train robustly, or to take from ``weights``."""

    out: Path
    recipe: Recipe
    weights: Path | None = None


def make_parent(parent: Parent) -> Path:
    return pretrain(parent.recipe, parent.out, weights=parent.weights).path


def evaluate_parent(job: tuple[Parent, tuple[Evaluating, ...]]) -> dict[str, Any]:
    parent, tests = job
    for settings in tests:
        evaluate_run(parent.out, settings, parent.recipe.compute)
    return read_json(RunDirectory(parent.out).card)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Prune, finetune and judge. What is finished is not run again; what was interrupted goes on."""
    for settings in cell.tests:
        recipe = replace(recipe_for(cell.recipe.prune.method, cell.recipe), test=settings)
        pipeline.run_cell(recipe, cell.parent, cell.out)
    return read_json(RunDirectory(cell.final).card)


def run_job(job: Any) -> dict[str, Any]:
    """The card of a cell, or of a parent that is only to be judged."""
    return run_cell(job) if isinstance(job, Cell) else evaluate_parent(job)


def run_all(jobs: Sequence[Any], work: Callable[[Any], Any], processes: int) -> list[Any]:
    """Run independent jobs, each on one thread, ``processes`` at a time; results in the order of the jobs."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(work, job): i for i, job in enumerate(jobs)}
        for count, future in enumerate(as_completed(futures), 1):
            future.result()
            print(f"[{count}/{len(jobs)}] {jobs[futures[future]]}"[:160], flush=True)
        return [future.result() for future in futures]


def let_cells_import_this_folder() -> None:
    """Cells of `harp compare` are processes of their own, and their images are a module of this folder."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def accuracy(card: dict[str, Any], attack: str) -> float | None:
    """The card's accuracy under an attack, as a fraction."""
    return next((e["accuracy"] for e in card["evaluations"] if e["attack"] == attack), None)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def print_header(title: str, images: str) -> None:
    here = environment()
    print(
        f"{title}\n{here['cpu']}, {os.cpu_count()} cores; torch {here['torch']}, python {here['python']}, harp {here['commit']}\n{images}\n"
    )


def arguments(description: str, out: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs") / out, help="directory of the runs; finished ones are kept"
    )
    parser.add_argument("--json", type=Path, help="write one record a run to this file")
    parser.add_argument("--cards", type=Path, help="copy every card into this directory")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    return parser


def copy_card(run: Path, to: Path, name: str) -> None:
    to.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(RunDirectory(run).card, to / f"{name}.json")
