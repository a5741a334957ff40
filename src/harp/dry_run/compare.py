"""Estimate the time of a comparison from its finished cells, or else from a few timed steps."""

import statistics
from dataclasses import dataclass

from harp.cards import read_card
from harp.compare.jobs import Todo
from harp.compare.plan import Cell, ComparePlan
from harp.cost.passes import learns, stage_passes
from harp.dry_run.clock import Range
from harp.dry_run.evaluation import standing_below, time_to_evaluate
from harp.dry_run.stages import pass_seconds, validation_seconds
from harp.recipes import in_epochs
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data


@dataclass(frozen=True)
class CompareEstimate:
    """Seconds from now, when ``of`` says what they were estimated from."""

    range: Range
    of: str

    @property
    def seconds(self) -> int | float:
        return self.range.expected


def dry_run_compare(plan: ComparePlan, todo: Todo, at_a_time: int) -> CompareEstimate:
    """The time that is left for what is outstanding, when so many jobs run at a time."""
    cells = [job.cell for job in todo.rest if job.cell is not None]
    done = [
        seconds
        for cell in (plan.trials if todo.trials else plan.cells)
        if cell not in cells and (seconds := spent(cell)) is not None
    ]
    if done and not todo.first:
        seconds = [len(cells) * each / at_a_time for each in (min(done), statistics.mean(done), max(done))]
        return CompareEstimate(Range(*seconds), f"from the {len(done)} cells that are finished")
    data = open_data(plan.recipe)
    pass_s = pass_seconds(plan.recipe, data) * len(data.train)
    pretrain = in_epochs(plan.recipe.pretrain, len(data.train))
    passes = sum(cell.passes for cell in cells) + len(todo.first) * stage_passes(pretrain).total
    training = passes * pass_s
    standing = standing_below(plan.dense, plan.recipe)
    evaluation = time_to_evaluate(plan.recipe, standing) * (0 if todo.trials else len(todo.rest))
    validation = validation_seconds(plan.recipe, data) * _epochs(plan, cells, todo, len(data.train))
    fixed = training + validation
    return CompareEstimate(
        (evaluation + Range(fixed, fixed, fixed)) * (1 / at_a_time), "from timed steps; evaluation counted"
    )


def _epochs(plan: ComparePlan, cells: list[Cell], todo: Todo, images: int) -> int:
    """How many epochs there are to validate."""
    pretrain = in_epochs(plan.recipe.pretrain, images).epochs * len(todo.first)
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
