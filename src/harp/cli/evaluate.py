"""``harp evaluate``: a finished run on the test set."""

from dataclasses import dataclass
from typing import Annotated

from harp.cli.dry_run import DryRun, dry_run_evaluation
from harp.cli.parsing import AcceptChanges, Flat, RunPath, parse, path_of, recipe_of_run
from harp.cli.stopping import StopRequest
from harp.recipes import Compute, Evaluating


@dataclass(frozen=True)
class EvaluateFlags:
    """Evaluate a finished run on the test set: clean accuracy and accuracy under attack, with 95 % intervals."""

    run: RunPath
    """The run directory to evaluate; the results are added to its card."""
    settings: Annotated[Evaluating, Flat]
    compute: Compute
    corruptions: bool = False
    """Also evaluate on images with fifteen common corruptions in five severities."""
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


def evaluate(arguments: list[str], stop: StopRequest) -> None:
    recipe = recipe_of_run(arguments)
    default = EvaluateFlags(path_of(arguments), recipe.test, recipe.compute)
    flags = parse(EvaluateFlags, "evaluate", arguments, default)
    if flags.dry_run:
        return dry_run_evaluation(flags.run, flags.settings, flags.compute)

    from harp.cli.console import Console
    from harp.stages.evaluate import evaluate_run

    with Console(stop) as console:
        evaluate_run(
            flags.run,
            flags.settings,
            flags.compute,
            corruptions=flags.corruptions,
            accept_changes=flags.accept_changes,
            watch=console.watch,
        )
        console.table([flags.run])
