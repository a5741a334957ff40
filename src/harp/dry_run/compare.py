"""How long a comparison will take: from the cells that are finished, or else from a few timed steps."""

import statistics
from dataclasses import dataclass

from harp.compare.jobs import Todo
from harp.compare.plan import Cell, Comparison
from harp.cost.passes import learns, stage_passes
from harp.dry_run.clock import Range
from harp.dry_run.evaluation import standing_below, time_to_evaluate
from harp.dry_run.stages import pass_seconds, validation_seconds
from harp.recipes import in_epochs
from harp.runs.card import read_card
from harp.runs.directory import RunDirectory
from harp.runs.opening import open_data


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
    pass_s = pass_seconds(comparison.recipe, data) * len(data.train)
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
    return masked["elapsed_s"] + final["elapsed_s"] + sum(e["elapsed_s"] for e in final["evaluations"])
