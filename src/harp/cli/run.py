"""``harp run``: the whole job."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from harp.cli.dry_run import DryRun, dry_run
from harp.cli.parsing import AcceptChanges, Flat, PresetName, parse, preset_of, source_of
from harp.cli.shown import OfMethods, of_methods, plain, refuse_single
from harp.cli.stopping import StopRequest
from harp.recipes import data_title, normal_spelling


@dataclass(frozen=True)
class RunFlags:
    """Run the whole job: pretrain one network, then prune, finetune and evaluate it with each method, and write a report."""

    preset: PresetName
    """A name from `harp presets`."""
    recipe: Annotated[OfMethods, Flat]
    out: Path
    """The directory to write the runs into."""
    methods: tuple[str, ...] = ("harp", "hydra", "lwm")
    """The methods to compare on the same budget, with plug-ins as in harp+awp; `harp methods` lists the names."""
    keep: float | None = None
    """Fraction of the weights to keep: short for --prune.keep."""
    overwrite: bool = False
    """Replace runs that have other settings; finished runs with the same settings are kept."""
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
