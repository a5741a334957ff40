"""``harp compare`` and ``harp cell``: every combination on the same budget, and one of them."""

from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from harp.cli.dry_run import about
from harp.cli.parsing import Flat, RunPath, parse, path_of, recipe_of_run, refuse_directory, source_of
from harp.cli.shown import OfCells, of_cells, plain, refuse_single
from harp.cli.stopping import StopRequest
from harp.recipes import PRESETS, Granularity, Recipe, recipe_in

if TYPE_CHECKING:
    from harp.compare import ComparePlan


@dataclass(frozen=True)
class CompareFlags:
    """Compare methods: for each seed, prune the same parent with every method at every keep fraction, with equal compute."""

    parents: Positional[Annotated[tuple[str, ...], arg(metavar="RUN|PRESET ...")]]
    """Dense runs, which the seeds use in turn; or a name from `harp presets`, to train one parent per seed."""
    recipe: Annotated[OfCells, Flat]
    out: Path = Path("runs/compare")
    """The directory to write the runs, their logs and `report.html` into."""
    methods: tuple[str, ...] = ("harp", "hydra", "lwm")
    """The methods, with plug-ins as in harp+awp; `harp methods` lists the names."""
    keeps: tuple[float, ...] = (0.1, 0.01)
    """Fractions to keep."""
    granularities: tuple[Granularity, ...] = ("weight",)
    """What to prune: single weights, or whole channels."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every combination is run once per seed; no method is called better on fewer than three."""
    tune: UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A setting and values to choose from for each method, on the validation images: finetune.lr 0.1 0.03 0.01. Give it
    several times for a grid."""
    columns: tuple[Literal["corruptions", "calibration", "worst-class"], ...] = ()
    """Further columns: mean accuracy under common corruptions, calibration error, accuracy of the worst class under attack."""
    baseline: str | None = None
    """The method that the others are compared with; None is hydra, or the first method if hydra is not among them."""
    jobs: int | None = None
    """Cells to run at a time; None is one per core on this machine, and all that a cluster accepts."""
    launcher: Literal["local", "slurm", "ray"] = "local"
    """Where cells run: processes of this machine, a SLURM cluster, a Ray cluster."""
    launcher_options: tuple[str, ...] = ()
    """NAME=VALUE for submitit or ray, such as slurm_partition=long or num_gpus=1."""
    json: Path | None = None
    """Write one JSON record per finished network to this file, at the end or on interruption."""
    dry_run: bool = False
    """Print an estimate of the time and the remaining commands, and run none of them."""
    overwrite: bool = False
    """Replace runs that have other settings; finished runs with the same settings are kept."""


@dataclass(frozen=True)
class CellFlags:
    """Run one cell of a comparison: prune a dense run, finetune it and evaluate it. The flags are those of a recipe."""

    run: RunPath
    """The run directory of the robust parent."""
    out: Path
    """The folder for its two runs, `masks` and `final`."""
    recipe: Annotated[Recipe, Flat]
    evaluate: bool = True
    """Evaluate the network on the test set; --no-evaluate makes it a trial of tuning."""
    overwrite: bool = False
    """Replace runs that have other settings, and run the cell again if it is finished."""


_PLURALS = {
    "--prune.method": "--methods",
    "--prune.keep": "--keeps",
    "--prune.granularity": "--granularities",
    "--seed": "--seeds",
}


def compare(arguments: list[str], stop: StopRequest) -> int:
    source, recipe = source_of(arguments), _recipe_to_compare(arguments)
    refuse_single(arguments, _PLURALS)
    default = CompareFlags(() if source is tyro.MISSING else (source,), of_cells(recipe))
    flags: CompareFlags = parse(CompareFlags, "compare", arguments, default)

    from harp.cli.compare_console import CompareConsole
    from harp.compare import cores, make_launcher, outstanding
    from harp.dry_run.compare import dry_run_compare

    plan = _plan(flags)
    launcher = make_launcher(flags.launcher, flags.jobs, flags.launcher_options, flags.recipe.compute.threads or 1)
    todo = outstanding(plan, overwrite=flags.overwrite)
    at_a_time = flags.jobs or (cores() if flags.launcher == "local" else max(1, len(todo.rest)))
    if flags.dry_run:
        print(f"# {todo.finished} of {todo.cells} {'trials' if todo.trials else 'cells'} are finished")
        if todo.first or todo.rest:
            cost = dry_run_compare(plan, todo, at_a_time)
            print(f"# {at_a_time} at a time: about {about(cost.range)}, {cost.of}")
        print(
            "\n".join([*map(str, todo.first), *(["# then, in any order:"] if todo.first else []), *map(str, todo.rest)])
        )
        if todo.trials:
            print("# then the chosen networks and the parents are evaluated")
        return 0
    refuse_directory(flags.json)
    with CompareConsole(stop) as console:
        try:
            failures = console.run(plan, todo, launcher, at_a_time)
            if todo.trials:
                plan = console.tune(plan)
                if plan.choices:
                    failures += console.run(plan, outstanding(plan, overwrite=flags.overwrite), launcher, at_a_time)
        except KeyboardInterrupt:
            console.conclude(plan, [], flags.json)
            raise
        console.conclude(plan, failures, flags.json)
    return 1 if failures else 0


def cell(arguments: list[str], stop: StopRequest) -> None:
    default = CellFlags(path_of(arguments), tyro.MISSING, recipe_of_run(arguments))
    flags: CellFlags = parse(CellFlags, "cell", arguments, default)

    from harp.cli.console import Console
    from harp.stages.pipeline import run_cell

    with Console(stop) as console:
        final = run_cell(
            flags.recipe, flags.run, flags.out, test=flags.evaluate, overwrite=flags.overwrite, watch=console.watch
        )
        console.table([final])


def _recipe_to_compare(arguments: list[str]) -> Recipe:
    """That of the preset or run that is named first, on one thread: cells run beside each other."""
    source = source_of(arguments)
    if source is tyro.MISSING:
        return Recipe()
    if source not in PRESETS and not Path(source).is_dir():
        raise ValueError(f"{source!r} is neither a run directory nor a preset; presets are {', '.join(PRESETS)}")
    recipe = PRESETS[source][1] if source in PRESETS else recipe_in(Path(source) / "recipe.json")
    if "channel" in _words_after("--granularities", arguments):  # so that flags such as --prune.multiple-of are taken
        recipe = replace(recipe, prune=replace(recipe.prune, granularity="channel"))
    if recipe.test.attack == "autoattack":  # between methods, what is in doubt is settled
        recipe = replace(recipe, test=replace(recipe.test, attack="settled"))
    return replace(recipe, compute=replace(recipe.compute, threads=recipe.compute.threads or 1))


def _words_after(flag: str, arguments: list[str]) -> list[str]:
    """The values of a flag that takes several."""
    if flag not in arguments:
        return []
    return list(takewhile(lambda word: not word.startswith("--"), arguments[arguments.index(flag) + 1 :]))


def _plan(flags: CompareFlags) -> "ComparePlan":
    from harp.compare import ComparePlan, axes_of
    from harp.stages.pipeline import on_its_data

    trained = [name for name in flags.parents if name in PRESETS]
    if trained and len(flags.parents) > 1:
        raise ValueError(f"parents names the preset {trained[0]!r} and others: name one preset alone, or dense runs")
    recipe = plain(flags.recipe)
    corruptions = recipe.test.corruptions or "corruptions" in flags.columns
    recipe = replace(recipe, test=replace(recipe.test, corruptions=corruptions))
    return ComparePlan(
        on_its_data(recipe),
        flags.out,
        methods=flags.methods,
        keeps=flags.keeps,
        granularities=flags.granularities,
        seeds=flags.seeds,
        baseline=flags.baseline,
        parents=() if trained else tuple(map(Path, flags.parents)),
        preset=trained[0] if trained else "",
        tune=axes_of(flags.tune),
        columns=flags.columns,
    )
