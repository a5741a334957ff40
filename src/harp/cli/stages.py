"""``harp pretrain``, ``prune`` and ``finetune``: each reads one run directory and writes another."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from harp.cli.dry_run import DryRun, dry_run
from harp.cli.parsing import (
    AcceptChanges,
    Flat,
    PresetName,
    RunPath,
    parse,
    path_of,
    preset_of,
    recipe_of_run,
    source_of,
)
from harp.cli.stopping import StopRequest
from harp.recipes import Compute, Pruning, Task, Training


@dataclass(frozen=True)
class PretrainFlags:
    """Train a network robustly, from scratch, or start from an existing checkpoint with --weights."""

    preset: PresetName
    """The recipe whose settings are the defaults: a name from `harp presets`."""
    out: Path
    """The run directory to write."""
    training: Annotated[Training, Flat]
    task: Task
    compute: Compute
    seed: int = 0
    weights: Path | None = None
    """A checkpoint of this network (safetensors, or a PyTorch state dict) to take instead of training."""
    weights_key: str | None = None
    """Which network to take from a checkpoint with several, such as state_dict_ema."""
    train_weights: bool = False
    """Continue training from --weights; a last layer with another number of classes starts from new weights."""
    overwrite: bool = False
    """Replace an existing run."""
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


@dataclass(frozen=True)
class PruneFlags:
    """Learn which weights of a robust network to keep: exactly round(keep * N) of them."""

    run: RunPath
    """The run directory of the robust parent."""
    out: Path
    """The run directory to write."""
    settings: Annotated[Pruning, Flat]
    compute: Compute
    seed: int = 0
    overwrite: bool = False
    """Replace an existing run."""
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


@dataclass(frozen=True)
class FinetuneFlags:
    """Train the remaining weights of a pruned network; the masks do not change."""

    run: RunPath
    """The run directory of the pruned network."""
    out: Path
    """The run directory to write."""
    settings: Annotated[Training, Flat]
    compute: Compute
    seed: int = 0
    overwrite: bool = False
    """Replace an existing run."""
    accept_changes: AcceptChanges = False
    dry_run: DryRun = False


def pretrain(arguments: list[str], stop: StopRequest) -> None:
    recipe = preset_of(arguments)
    default = PretrainFlags(
        source_of(arguments), tyro.MISSING, recipe.pretrain, recipe.task, recipe.compute, recipe.seed
    )
    flags = parse(PretrainFlags, "pretrain", arguments, default)
    recipe = replace(recipe, task=flags.task, pretrain=flags.training, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return dry_run(recipe, weights=None if flags.train_weights else flags.weights)

    from harp.cli.console import Console
    from harp.stages import train as stages

    with Console(stop) as console:
        stages.pretrain(
            recipe,
            flags.out,
            weights=flags.weights,
            weights_key=flags.weights_key,
            train_weights=flags.train_weights,
            overwrite=flags.overwrite,
            accept_changes=flags.accept_changes,
            watch=console.watch,
        )


def prune(arguments: list[str], stop: StopRequest) -> None:
    _go_on("prune", PruneFlags, arguments, stop)


def finetune(arguments: list[str], stop: StopRequest) -> None:
    _go_on("finetune", FinetuneFlags, arguments, stop)


def _go_on(
    stage: Literal["prune", "finetune"],
    kind: type[PruneFlags] | type[FinetuneFlags],
    arguments: list[str],
    stop: StopRequest,
) -> None:
    """A stage that starts from a run, whose recipe is the default of all flags."""
    recipe = recipe_of_run(arguments)
    default = kind(path_of(arguments), tyro.MISSING, getattr(recipe, stage), recipe.compute, recipe.seed)
    flags = parse(kind, stage, arguments, default)
    recipe = replace(recipe, **{stage: flags.settings}, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return dry_run(recipe, flags.run, stage)

    from harp.cli.console import Console
    from harp.stages import train as stages

    run = {"prune": stages.prune, "finetune": stages.finetune}[stage]
    with Console(stop) as console:
        run(
            recipe,
            flags.run,
            flags.out,
            overwrite=flags.overwrite,
            accept_changes=flags.accept_changes,
            watch=console.watch,
        )
