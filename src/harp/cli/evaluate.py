"""``harp evaluate``: a finished run on the test set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from harp.cli.dry import DryRun, foretell_evaluation
from harp.cli.parsing import AcceptChanges, Flat, parse, path_of, recipe_of_run
from harp.cli.stopping import StopRequest
from harp.recipes import Compute, Testing


@dataclass(frozen=True)
class EvaluateFlags:
    """Judge a finished run on the test set: clean accuracy and accuracy under attack, with 95 % intervals."""

    run: Positional[Path]
    """The run directory to judge; the results are added to its card."""
    testing: Annotated[Testing, Flat]
    compute: Compute
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


def evaluate(arguments: list[str], stop: StopRequest) -> None:
    recipe = recipe_of_run(arguments)
    default = EvaluateFlags(path_of(arguments), recipe.test, recipe.compute)
    flags = parse(EvaluateFlags, "evaluate", arguments, default)
    if flags.dry_run:
        return foretell_evaluation(flags.run, flags.testing, flags.compute)

    from harp.cli.console import Console
    from harp.stages import evaluate as judging

    with Console(stop) as console:
        judging.judge(flags.run, flags.testing, flags.compute, accept_changes=flags.accept_changes, watch=console.watch)
        console.table([flags.run])
