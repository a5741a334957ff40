"""What the accuracy benchmarks share: parents trained or taken from weights, and comparisons carried out from them."""

import argparse
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from harp.compare import ComparePlan, Job, make_launcher, outstanding, run
from harp.environment import environment
from harp.recipes import Evaluating, Recipe
from harp.runs.directory import RunDirectory
from harp.stages.train import pretrain

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Parent:
    """A dense network to train robustly, or to take from ``weights``."""

    out: Path
    recipe: Recipe
    weights: Path | None = None


def make_parents(parents: Sequence[Parent], processes: int) -> tuple[Path, ...]:
    """Their runs, made each on one thread, ``processes`` at a time. What is finished is not trained again."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return tuple(pool.map(_make_parent, parents))


def _make_parent(parent: Parent) -> Path:
    return pretrain(parent.recipe, parent.out, weights=parent.weights).path


def carry_out(comparison: ComparePlan, tests: Sequence[Evaluating], processes: int) -> None:
    """Run what `harp compare` would, once for each test: after the first only evaluations are outstanding.

    What is finished is not run again, what was interrupted goes on. Raises RuntimeError when a job failed.
    """

    def show(job: Job, status: int) -> None:
        print(f"{job.name}: {'done' if status == 0 else f'failed, see {job.log}'}", flush=True)

    let_cells_import_this_folder()
    launcher = make_launcher("local", processes, (), threads=1)
    for testing in tests:
        asked = replace(comparison, recipe=replace(comparison.recipe, test=testing))
        if failures := run(outstanding(asked), launcher, lambda: False, show):
            raise RuntimeError("\n".join(f"{failure.name}: {failure.why}" for failure in failures))


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
