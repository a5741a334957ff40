"""One short function a command, and the flags it takes as a frozen dataclass."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from ..recipes import PRESETS, Compute, MethodName, Pruning, Recipe, Task, Testing, Training, recipe_in
from .bench import bench
from .dry import DryRun, foretell
from .shrink import shrink

if TYPE_CHECKING:
    from .main import Command, StopRequest

Flat = arg(name="")


@dataclass(frozen=True)
class PretrainFlags:
    """Train a network robustly, from scratch, or take an existing robust checkpoint with --weights."""

    preset: Positional[str]
    """Where the settings start: a name from `harp presets`."""
    out: Path
    """The run directory to write."""
    training: Annotated[Training, Flat]
    task: Task
    compute: Compute
    seed: int = 0
    weights: Path | None = None
    """A checkpoint of this network (safetensors, or a PyTorch state dict) to take instead of training."""
    weights_key: str | None = None
    """Of a checkpoint with several networks the one to take, such as state_dict_ema."""
    train_weights: bool = False
    """Train on from --weights; a last layer of another number of classes begins anew."""
    overwrite: bool = False
    """Replace a run that is already there."""
    dry_run: DryRun = False


@dataclass(frozen=True)
class PruneFlags:
    """Learn which weights of a robust network to keep: exactly round(keep * N) of them."""

    run: Positional[Path]
    """The run directory of the robust parent."""
    out: Path
    """The run directory to write."""
    pruning: Annotated[Pruning, Flat]
    compute: Compute
    seed: int = 0
    overwrite: bool = False
    """Replace a run that is already there."""
    dry_run: DryRun = False


@dataclass(frozen=True)
class FinetuneFlags:
    """Train the weights that survived pruning; the masks stay."""

    run: Positional[Path]
    """The run directory of the pruned network."""
    out: Path
    """The run directory to write."""
    training: Annotated[Training, Flat]
    compute: Compute
    seed: int = 0
    overwrite: bool = False
    """Replace a run that is already there."""
    dry_run: DryRun = False


@dataclass(frozen=True)
class EvaluateFlags:
    """Judge a finished run on the test set: clean accuracy and accuracy under attack, with 95 % intervals."""

    run: Positional[Path]
    """The run directory to judge; the results are added to its card."""
    testing: Annotated[Testing, Flat]
    compute: Compute


@dataclass(frozen=True)
class RunFlags:
    """The whole job: pretrain, prune to the budget, finetune, evaluate, report; each method from the same parent."""

    preset: Positional[str]
    """A name from `harp presets`."""
    recipe: Annotated[Recipe, Flat]
    out: Path
    """The directory to write the runs into."""
    methods: tuple[MethodName, ...] = ("harp", "hydra", "lwm")
    """Rows of the method table to compare on the same budget."""
    keep: float | None = None
    """Fraction of the weights that stays: short for --prune.keep."""
    overwrite: bool = False
    """Replace runs of other settings; what is finished with the same ones stays."""
    dry_run: DryRun = False


@dataclass(frozen=True)
class ExportFlags:
    """Write the network of a finished run to one file that needs no torch to run; channels that were pruned are left out."""

    run: Positional[Path]
    """The run directory of the network."""
    out: Path
    """The file to write, e.g. net.harp."""
    format: Literal["harp", "onnx"] = "harp"
    """harp: sparse, for harp.runtime. onnx: dense, for everyone else's."""
    values: Literal["f32", "f16"] = "f32"
    """How a .harp file stores weights. f16 halves it, and is refused when logits then differ by more than tolerance."""
    tolerance: float | None = None
    """How far logits of validation images may be off, relative to the largest; None: 1e-4, for f16 1e-2."""
    overwrite: bool = False
    """Replace a file that is already there."""


@dataclass(frozen=True)
class ReportFlags:
    """Write one self-contained HTML page about any number of runs."""

    runs: Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path = Path("report.html")
    """The page to write; an existing one is replaced."""


def pretrain(arguments: list[str], stop: "StopRequest") -> None:
    recipe = _preset(arguments)
    default = PretrainFlags(_source(arguments), tyro.MISSING, recipe.pretrain, recipe.task, recipe.compute, recipe.seed)
    flags = _parse(PretrainFlags, "pretrain", arguments, default)
    recipe = replace(recipe, task=flags.task, pretrain=flags.training, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return foretell(recipe, weights=None if flags.train_weights else flags.weights)

    from .. import stages
    from .console import Console

    with Console(stop) as console:
        weights = {name: getattr(flags, name) for name in ("weights", "weights_key", "train_weights")}
        stages.pretrain(recipe, flags.out, **weights, overwrite=flags.overwrite, watch=console.watch)


def prune(arguments: list[str], stop: "StopRequest") -> None:
    recipe = _recipe_of_run(arguments)
    default = PruneFlags(_path(arguments), tyro.MISSING, recipe.prune, recipe.compute, recipe.seed)
    flags = _parse(PruneFlags, "prune", arguments, default)
    recipe = replace(recipe, prune=flags.pruning, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return foretell(recipe, flags.run, "prune")

    from .. import stages
    from .console import Console

    with Console(stop) as console:
        stages.prune(recipe, flags.run, flags.out, overwrite=flags.overwrite, watch=console.watch)


def finetune(arguments: list[str], stop: "StopRequest") -> None:
    recipe = _recipe_of_run(arguments)
    default = FinetuneFlags(_path(arguments), tyro.MISSING, recipe.finetune, recipe.compute, recipe.seed)
    flags = _parse(FinetuneFlags, "finetune", arguments, default)
    recipe = replace(recipe, finetune=flags.training, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return foretell(recipe, flags.run, "finetune")

    from .. import stages
    from .console import Console

    with Console(stop) as console:
        stages.finetune(recipe, flags.run, flags.out, overwrite=flags.overwrite, watch=console.watch)


def evaluate(arguments: list[str], stop: "StopRequest") -> None:
    recipe = _recipe_of_run(arguments)
    default = EvaluateFlags(_path(arguments), recipe.test, recipe.compute)
    flags = _parse(EvaluateFlags, "evaluate", arguments, default)

    from .. import judging
    from .console import Console

    with Console(stop) as console:
        judging.judge(flags.run, flags.testing, flags.compute, watch=console.watch)
        console.table([flags.run])


def run(arguments: list[str], stop: "StopRequest") -> None:
    name, recipe = _source(arguments), _preset(arguments)
    out = Path("runs") / name if isinstance(name, str) else Path("runs")
    flags = _parse(RunFlags, "run", arguments, RunFlags(name, recipe, out))
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
            f"{recipe.task.data}: a robust parent, then {', '.join(flags.methods)} at keep={recipe.prune.keep:g}"
        )
        finals = run_all(recipe, flags.methods, flags.out, overwrite=flags.overwrite, watch=console.watch)
        if leads():
            console.table(finals)
            console.page(write_report(finals, flags.out / "report.html"))


def export(arguments: list[str], stop: "StopRequest") -> None:
    flags = _parse(ExportFlags, "export", arguments, None)

    from ..exporting.run import export_run

    how = {"values": flags.values, "format": flags.format, "tolerance": flags.tolerance}
    done = export_run(flags.run, flags.out, **how, overwrite=flags.overwrite)
    print(f"{done.kept:,} of {done.total:,} weights are not zero")
    print(
        f"{done.size_bytes:,} bytes in {done.path}; dense float32 is {done.dense_bytes:,}: 1/{done.times_smaller:.3g}"
    )
    print(f"Checked on {done.agreement.images} validation images: {done.agreement}")


def report(arguments: list[str], stop: "StopRequest") -> None:
    flags = _parse(ReportFlags, "report", arguments, None)
    if not flags.runs:
        raise ValueError("runs is empty: name at least one run directory, e.g. `harp report runs/*`")

    from ..report import write_report

    print(f"Report: {write_report(flags.runs, flags.out).resolve()}")


def presets(arguments: list[str], stop: "StopRequest") -> None:
    width = max(map(len, PRESETS))
    for name, (what, _) in PRESETS.items():
        print(f"  {name:<{width}}  {what}")


COMMANDS: "dict[str, Command]" = {
    "run": run,
    "pretrain": pretrain,
    "prune": prune,
    "finetune": finetune,
    "evaluate": evaluate,
    "export": export,
    "shrink": shrink,
    "report": report,
    "bench": bench,
    "presets": presets,
}


def _parse(kind: Callable[..., Any], command: str, arguments: list[str], default: Any) -> Any:
    return tyro.cli(
        kind, prog=f"harp {command}", args=arguments, default=tyro.MISSING_NONPROP if default is None else default
    )


def _source(arguments: list[str]) -> str:
    """The first argument, from which the defaults of all flags come; MISSING lets tyro ask for it.

    Raises ValueError when flags stand before it: their defaults would come from elsewhere without a word.
    """
    if not arguments or ({"-h", "--help"} & {*arguments} and arguments[0].startswith("-")):
        return tyro.MISSING
    if arguments[0].startswith("-"):
        raise ValueError(
            f"{arguments[0]} comes too early: the preset or run is named first, since it sets all defaults"
        )
    return arguments[0]


def _path(arguments: list[str]) -> Any:
    return source if (source := _source(arguments)) is tyro.MISSING else Path(source)


def _preset(arguments: list[str]) -> Recipe:
    name = _source(arguments)
    if name is tyro.MISSING:
        return Recipe()
    if name not in PRESETS:
        raise ValueError(f"{name!r} is not a preset; choose one of {', '.join(PRESETS)}")
    return PRESETS[name][1]


def _recipe_of_run(arguments: list[str]) -> Recipe:
    """The recipe of the run that the first argument names. Read without torch, so that --help stays quick."""
    source = _path(arguments)
    return Recipe() if source is tyro.MISSING else recipe_in(source / "recipe.json")
