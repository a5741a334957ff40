"""``harp run``: the whole job."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from ..recipes import Recipe, data_title
from .dry import DryRun, foretell
from .parsing import Flat, parse, preset_of, source_of
from .stopping import StopRequest


@dataclass(frozen=True)
class RunFlags:
    """The whole job: pretrain, prune to the budget, finetune, evaluate, report; each method from the same parent."""

    preset: Positional[str]
    """A name from `harp presets`."""
    recipe: Annotated[Recipe, Flat]
    out: Path
    """The directory to write the runs into."""
    methods: tuple[str, ...] = ("harp", "hydra", "lwm")
    """What to compare on the same budget; `harp methods` lists the names."""
    keep: float | None = None
    """Fraction of the weights that stays: short for --prune.keep."""
    overwrite: bool = False
    """Replace runs of other settings; what is finished with the same ones stays."""
    dry_run: DryRun = False


def run(arguments: list[str], stop: StopRequest) -> None:
    name, recipe = source_of(arguments), preset_of(arguments)
    out = Path("runs") / name if isinstance(name, str) else Path("runs")
    flags = parse(RunFlags, "run", arguments, RunFlags(name, recipe, out))
    if flags.recipe.prune.method != recipe.prune.method:
        raise ValueError(f"prune.method={flags.recipe.prune.method!r} is for `harp prune`; here name --methods")
    recipe = flags.recipe
    if flags.keep is not None:
        recipe = replace(recipe, prune=replace(recipe.prune, keep=flags.keep))
    if flags.dry_run:
        return foretell(recipe, methods=flags.methods)

    from ..devices import leads
    from ..pipeline import run_all
    from ..report import write_report
    from .console import Console

    with Console(stop) as console:
        console.say(
            f"{data_title(recipe.task.data, recipe.task.root)}: a robust parent, then {', '.join(flags.methods)} at keep={recipe.prune.keep:g}"
        )
        finals = run_all(recipe, flags.methods, flags.out, overwrite=flags.overwrite, watch=console.watch)
        if leads():
            console.table(finals)
            console.page(write_report(finals, flags.out / "report.html"))
