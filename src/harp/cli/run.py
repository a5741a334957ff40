"""``harp run``: the whole job."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from harp.cli.dry_run import DryRun, dry_run
from harp.cli.parsing import AcceptChanges, Flat, parse, preset_of, source_of
from harp.cli.shown import OfMethods, of_methods, plain, refuse_single
from harp.cli.stopping import StopRequest
from harp.recipes import data_title, normal_spelling


@dataclass(frozen=True)
class RunFlags:
    """The whole job: pretrain, prune to the budget, finetune, evaluate, report; each method from the same parent."""

    preset: Positional[str]
    """A name from `harp presets`."""
    recipe: Annotated[OfMethods, Flat]
    out: Path
    """The directory to write the runs into."""
    methods: tuple[str, ...] = ("harp", "hydra", "lwm")
    """What to compare on the same budget, with plug-ins as in harp+awp; `harp methods` lists the names."""
    keep: float | None = None
    """Fraction of the weights that stays: short for --prune.keep."""
    overwrite: bool = False
    """Replace runs of other settings; what is finished with the same ones stays."""
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


def run(arguments: list[str], stop: StopRequest) -> None:
    name, recipe = source_of(arguments), preset_of(arguments)
    out = Path("runs") / name if isinstance(name, str) else Path("runs")
    refuse_single(arguments, {"--prune.method": "--methods"})
    flags = parse(RunFlags, "run", arguments, RunFlags(name, of_methods(recipe), out))
    recipe, methods = plain(flags.recipe), tuple(dict.fromkeys(map(normal_spelling, flags.methods)))
    if flags.keep is not None:
        recipe = replace(recipe, prune=replace(recipe.prune, keep=flags.keep))
    if flags.dry_run:
        return dry_run(recipe, methods=methods)

    from harp.cli.console import Console
    from harp.report import write_report
    from harp.stages.pipeline import run_all
    from harp.training.distributed import leads

    with Console(stop) as console:
        console.say(
            f"{data_title(recipe.task.data, recipe.task.root)}: a robust parent, then {', '.join(methods)} at keep={recipe.prune.keep:g}"
        )
        finals = run_all(
            recipe,
            methods,
            flags.out,
            overwrite=flags.overwrite,
            accept_changes=flags.accept_changes,
            watch=console.watch,
        )
        if leads():
            console.table(finals)
            console.page(write_report(finals, flags.out / "report.html"))
