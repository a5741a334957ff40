"""``harp pretrain``, ``prune`` and ``finetune``: each reads one run directory and writes another."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

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
    pruning: Annotated[Pruning, Flat]
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
    training: Annotated[Training, Flat]
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
    recipe = recipe_of_run(arguments)
    default = PruneFlags(path_of(arguments), tyro.MISSING, recipe.prune, recipe.compute, recipe.seed)
    flags = parse(PruneFlags, "prune", arguments, default)
    recipe = replace(recipe, prune=flags.pruning, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return dry_run(recipe, flags.run, "prune")

    from harp.cli.console import Console
    from harp.stages import train as stages

    with Console(stop) as console:
        stages.prune(
            recipe,
            flags.run,
            flags.out,
            overwrite=flags.overwrite,
            accept_changes=flags.accept_changes,
            watch=console.watch,
        )


def finetune(arguments: list[str], stop: StopRequest) -> None:
    recipe = recipe_of_run(arguments)
    default = FinetuneFlags(path_of(arguments), tyro.MISSING, recipe.finetune, recipe.compute, recipe.seed)
    flags = parse(FinetuneFlags, "finetune", arguments, default)
    recipe = replace(recipe, finetune=flags.training, compute=flags.compute, seed=flags.seed)
    if flags.dry_run:
        return dry_run(recipe, flags.run, "finetune")

    from harp.cli.console import Console
    from harp.stages import train as stages

    with Console(stop) as console:
        stages.finetune(
            recipe,
            flags.run,
            flags.out,
            overwrite=flags.overwrite,
            accept_changes=flags.accept_changes,
            watch=console.watch,
        )
