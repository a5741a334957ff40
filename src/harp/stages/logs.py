"""Where the metrics of each epoch go beside ``metrics.jsonl``: a table, TensorBoard, Weights & Biases."""

import csv
import importlib
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from harp.files import write_bytes
from harp.recipes import Recipe, to_json
from harp.runs.directory import RunDirectory
from harp.training.progress import EpochMetrics

Log = Callable[[Sequence[EpochMetrics]], None]
"""Called after each epoch with the records of all so far; a stage that goes on gives the earlier ones again."""


def make_log(recipe: Recipe, stage: str, run: RunDirectory) -> Log:
    """The log that the recipe names. Raises ValueError for a package that is not there."""
    match recipe.compute.log:
        case "csv":
            return lambda records: write_bytes(run.table, _table(records).encode())
        case "tensorboard":
            return _tensorboard(_package("torch.utils.tensorboard", "tensorboard"), run)
        case "wandb":
            return _wandb(_package("wandb", "wandb"), recipe, stage, run)
        case _:
            return lambda records: None


def numbers(record: EpochMetrics) -> dict[str, int | float]:
    """What of an epoch can be drawn: its numbers, and the keep fraction of each layer as ``layers/NAME``."""
    entries = {name: value for name, value in asdict(record).items() if isinstance(value, int | float)}
    return {**entries, **{f"layers/{name}": keep for name, keep in record.layers.items()}}


def _table(records: Sequence[EpochMetrics]) -> str:
    rows = [numbers(record) for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tensorboard(package: Any, run: RunDirectory) -> Log:
    shown = 0
    shutil.rmtree(run.tensorboard, ignore_errors=True)  # all epochs come again
    writer = None

    def log(records: Sequence[EpochMetrics]) -> None:
        nonlocal shown, writer
        writer = writer or package.SummaryWriter(log_dir=str(run.tensorboard))
        for record in records[shown:]:
            for name, value in numbers(record).items():
                writer.add_scalar(name, value, record.epoch)
        shown = len(records)
        writer.flush()

    return log


def _wandb(package: Any, recipe: Recipe, stage: str, run: RunDirectory) -> Log:
    shown = 0
    session = None

    def log(records: Sequence[EpochMetrics]) -> None:
        nonlocal shown, session
        session = session or package.init(project="harp", name=f"{run.path.name} {stage}", config=to_json(recipe))
        for record in records[shown:]:
            session.log(numbers(record), step=record.epoch)
        shown = len(records)

    return log


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"log={extra!r} needs the package {extra}, which is not installed: pip install '.[{extra}]' in a checkout of harp"
        ) from error
