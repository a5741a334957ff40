"""How long a comparison will take: from the cells that are finished, or else from a few timed steps."""

import statistics
import time
from dataclasses import dataclass, replace

import torch

from harp.attacks import Threat
from harp.cards import read_card
from harp.compare.jobs import Todo
from harp.compare.plan import Cell, Comparison
from harp.cost.passes import learns, stage_passes
from harp.dry_run.clock import Range
from harp.dry_run.evaluation import standing_below, time_to_evaluate
from harp.dry_run.stages import validation_seconds
from harp.recipes import Recipe, Training, in_epochs
from harp.runs.directory import RunDirectory
from harp.runs.opening import build_network, open_data
from harp.training.build import make_objective
from harp.training.distributed import alone, launch, make_fabric, place

_UNTIMED, _TIMED = 1, 3
"""Steps that warm up, and steps whose median counts."""
_ENOUGH_S = 20.0


@dataclass(frozen=True)
class Cost:
    """Seconds from now, when ``of`` says what they were estimated from."""

    range: Range
    of: str

    @property
    def seconds(self) -> int | float:
        return self.range.expected


def estimate(comparison: Comparison, todo: Todo, at_a_time: int) -> Cost:
    """The time that is left for what is outstanding, when so many jobs run at a time."""
    cells = [job.cell for job in todo.rest if job.cell is not None]
    done = [seconds for cell in comparison.cells if cell not in cells and (seconds := spent(cell)) is not None]
    if done and not todo.first:
        seconds = [len(cells) * each / at_a_time for each in (min(done), statistics.mean(done), max(done))]
        return Cost(Range(*seconds), f"from the {len(done)} cells that are finished")
    data = open_data(comparison.recipe)
    pass_s = seconds_a_pass(comparison.recipe) * len(data.train)
    pretrain = in_epochs(comparison.recipe.pretrain, len(data.train))
    passes = sum(cell.passes for cell in cells) + len(todo.first) * stage_passes(pretrain).total
    training = passes * pass_s
    standing = standing_below(comparison.dense, comparison.recipe)
    judged = time_to_evaluate(comparison.recipe, standing) * len(todo.rest)
    validation = validation_seconds(comparison.recipe, data) * _epochs(comparison, cells, todo, len(data.train))
    fixed = training + validation
    return Cost((judged + Range(fixed, fixed, fixed)) * (1 / at_a_time), "from timed steps; evaluation counted")


def _epochs(comparison: Comparison, cells: list[Cell], todo: Todo, images: int) -> int:
    """How many epochs there are to validate."""
    pretrain = in_epochs(comparison.recipe.pretrain, images).epochs * len(todo.first)
    stages = (
        (cell.recipe.prune.epochs if learns(cell.recipe.prune.method) else 0) + cell.recipe.finetune.epochs
        for cell in cells
    )
    return pretrain + sum(stages)


def spent(cell: Cell) -> float | None:
    """Seconds that a finished cell took, as its cards say; None when it has none."""
    cards = [RunDirectory(run).card for run in (cell.masks, cell.final)]
    if not all(card.exists() for card in cards):
        return None
    masked, final = map(read_card, cards)
    return sum(card.elapsed_s or 0.0 for card in (masked, final)) + sum(e.elapsed_s for e in final.evaluations)


def seconds_a_pass(recipe: Recipe) -> float:
    """Seconds of one forward and backward pass of one image, in the middle of a training step of this recipe."""
    data, settings = open_data(recipe), recipe.finetune
    fabric = launch(make_fabric(alone(recipe.compute)), recipe.compute)
    model = place(build_network(recipe, data), fabric.device, channels_last=recipe.compute.channels_last).train()
    objective = make_objective(settings, Threat(recipe.task.norm, recipe.task.eps))
    first = torch.arange(min(settings.batch_size, len(data.train)))
    x, y = next(iter(data.train.batches(first, settings.batch_size)))
    x, y = x.to(fabric.device), y.to(fabric.device)
    times: list[float] = []
    while len(times) < _UNTIMED + _TIMED and sum(times) < _ENOUGH_S:
        began = time.perf_counter()
        objective(model, x, y).backward()
        times.append(time.perf_counter() - began)
    return statistics.median(times[_UNTIMED:] or times) / len(x) / _passes_a_step(settings)


def _passes_a_step(settings: Training) -> float:
    """Of the attack and the loss, without plug-ins."""
    plain = replace(settings, epochs=1, warmup_epochs=0.0, awp_gamma=0.0)
    return stage_passes(plain).total / settings.steps_a_batch
