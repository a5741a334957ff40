"""``--dry-run``: an estimate of what a command costs with this network, data and device. Nothing is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from harp.recipes import Compute, Evaluating, Recipe

if TYPE_CHECKING:
    from harp.dry_run.clock import Range
    from harp.dry_run.stages import Estimate

DryRun = Annotated[bool, arg(help="Estimate the time and memory from a few timed steps, and write nothing.")]

DEVICES = (1, 8, 64)
LINK_BYTES_PER_S = 10e9
"""Between devices, for the outlook: a network of 100 Gbit/s, four fifths of it used."""


def dry_run(
    recipe: Recipe,
    parent: Path | None = None,
    stage: Literal["prune", "finetune"] = "prune",
    *,
    weights: Path | None = None,
    methods: Sequence[str] = (),
) -> None:
    """Time a few steps of the stage that starts at ``parent``, of all stages for the ``methods``, or of pretraining."""
    from harp.dry_run import stages

    if methods:
        _dry_run_job(recipe, methods)
        return
    if parent is None:
        found = stages.dry_run_pretrain(recipe, weights)
    elif stage == "prune":
        found = stages.dry_run_prune(recipe, parent)
    else:
        found = stages.dry_run_finetune(recipe, parent)
    if found is None:
        print(f"{stage if parent else 'pretrain'}: no training, done at once")
    else:
        _show(found)


def _dry_run_job(recipe: Recipe, methods: Sequence[str]) -> None:
    """Every stage of the whole job as soon as it is timed, then the evaluations and the sum."""
    from harp.dry_run.job import dry_run_evaluations, dry_run_stages, whole

    stages = []
    for stage in dry_run_stages(recipe, methods):
        _show(stage)
        stages.append(stage)
    evaluations = dry_run_evaluations(recipe, len(methods))
    networks = 1 + len(methods)
    print(f"evaluation of {networks} networks: {about(evaluations)}, depending on how many images withstand the attack")
    print(f"the whole run: {about(whole(stages, evaluations))}")


def dry_run_evaluation(run: Path, settings: Evaluating, compute: Compute) -> None:
    """Time a few iterations of every part of the attacks that the run's card holds no result of."""
    from harp.dry_run.clock import NO_TIME
    from harp.dry_run.evaluation import time_of_evaluation

    found, total = time_of_evaluation(run, settings, compute), NO_TIME
    for attack, seconds in found.items():
        print(f"{attack}: {about(seconds)}")
        total += seconds
    print(f"evaluation: {about(total)}" if found else "evaluation: nothing to do, the card has all results")


def about(seconds: "Range") -> str:
    """``"3 min (2 min to 5 min)"``; the ends only if they differ."""
    low, middle, high = (_time(each / 3600) for each in (seconds.low, seconds.expected, seconds.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _show(found: "Estimate") -> None:
    from harp.cost.workload import scaled_hours

    work = found.work
    passes = f"{work.forward:g} forward and {work.backward:g} backward, {work.weight_backward:g} of them to the weights"
    print(
        f"{found.stage}: {work.epochs} epochs of {work.images:,} images, {work.batches:,} batches of {work.batch_size}\n"
        f"  passes per image and epoch {passes}\n"
        f"  operations per batch       {work.batch_macs:.3g} MACs ({work.macs:.3g} per pass and image)\n"
        f"  memory traffic per batch   {work.batch_bytes / 1e9:.3g} GB at least, without caches\n"
        f"  measured                   {found.batch_s:.3g} s per batch{_share(found)}{_memory(found)}\n"
        f"  validation per epoch       {found.validation_s:.3g} s\n"
        f"  the stage                  {_time(found.hours)}"
    )
    if found.devices == 1:
        outlook = (f"{n}: {_time(scaled_hours(work, found.batch_s, LINK_BYTES_PER_S, n))}" for n in DEVICES)
        print(f"  by number of devices       {', '.join(outlook)}")


def _memory(found: "Estimate") -> str:
    return "" if found.peak_memory_bytes is None else f", {found.peak_memory_bytes / 1e6:,.0f} MB at most"


def _share(found: "Estimate") -> str:
    return "" if found.devices == 1 else f" (a {found.devices}th of it on each device, their exchange not counted)"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    return f"{hours * 60:.2g} min" if hours < 1 else f"{hours:,.1f} h"
