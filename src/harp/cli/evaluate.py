"""``harp evaluate``: a finished run on the test set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harp.cli.dry_run import DryRun, dry_run_evaluation
from harp.cli.parsing import AcceptChanges, Flat, RunPath, parse, path_of, recipe_of_run, refuse_directory
from harp.cli.stopping import StopRequest
from harp.recipes import Compute, Evaluating, Protocol, evaluations_of


@dataclass(frozen=True)
class EvaluateFlags:
    """Evaluate a finished run on the test set: clean accuracy and accuracy under attack, with 95 % intervals."""

    run: RunPath
    """The run directory to evaluate; the results are added to its card."""
    settings: Annotated[Evaluating, Flat]
    compute: Compute
    protocol: Protocol | None = None
    """Evaluate as a benchmark does: attack, radius and number of images are its own."""
    json_robustbench: Path | None = None
    """Write the accuracies in the layout of RobustBench's model_info to this file."""
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


def evaluate(arguments: list[str], stop: StopRequest) -> None:
    recipe = recipe_of_run(arguments)
    default = EvaluateFlags(path_of(arguments), recipe.test, recipe.compute)
    flags = parse(EvaluateFlags, "evaluate", arguments, default)
    refuse_directory(flags.json_robustbench, "json_robustbench")
    asked = evaluations_of(flags.protocol, recipe.task, flags.settings) if flags.protocol else [flags.settings]
    if flags.dry_run:
        for settings in asked:
            dry_run_evaluation(flags.run, settings, flags.compute)
        return
    if flags.json_robustbench is not None and all(settings.attack != "autoattack" for settings in asked):
        _entry(flags.run)  # before the work, and not after it
    _evaluate(flags, asked, stop)
    if flags.json_robustbench is not None:
        _write_entry(flags.run, flags.json_robustbench)


def _evaluate(flags: EvaluateFlags, asked: list[Evaluating], stop: StopRequest) -> None:
    from harp.cli.console import Console
    from harp.stages.evaluate import evaluate_run

    with Console(stop) as console:
        for settings in asked:
            evaluate_run(
                flags.run,
                settings,
                flags.compute,
                accept_changes=flags.accept_changes,
                watch=console.watch,
            )
        console.table([flags.run])


def _write_entry(run: Path, file: Path) -> None:
    from harp.files import write_json
    from harp.training.distributed import leads

    if leads():
        write_json(file, _entry(run))


def _entry(run: Path) -> dict[str, Any]:
    """The run as an entry of RobustBench. Raises ValueError where it was not evaluated as one."""
    from harp.cards import read_card, robustbench_entry
    from harp.runs.directory import RunDirectory

    return robustbench_entry(read_card(RunDirectory(run).card))
