"""``harp run``: the whole job."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from ..recipes import data_title, normal_spelling
from .dry import DryRun, foretell
from .parsing import Flat, parse, preset_of, source_of
from .shown import OfMethods, of_methods, plain, refuse_single
from .stopping import StopRequest


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
        return foretell(recipe, methods=methods)

    from ..devices import leads
    from ..pipeline import run_all
    from ..report import write_report
    from .console import Console

    with Console(stop) as console:
        console.say(
            f"{data_title(recipe.task.data, recipe.task.root)}: a robust parent, then {', '.join(methods)} at keep={recipe.prune.keep:g}"
        )
        finals = run_all(recipe, methods, flags.out, overwrite=flags.overwrite, watch=console.watch)
        if leads():
            console.table(finals)
            console.page(write_report(finals, flags.out / "report.html"))
