"""A stage, opened: all of its input was looked at, and nothing is written yet."""

from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric

from harp.data import ImageData
from harp.recipes import Training
from harp.runs.claim import Claim
from harp.runs.images import with_validation
from harp.runs.inputs import changes
from harp.stages.inputs import open_inputs
from harp.stages.watch import Watch
from harp.training.distributed import batch_per_rank, launch, make_fabric


@dataclass(frozen=True)
class Stage:
    """What a stage works with on its way from a claim to a card."""

    claim: Claim
    fabric: Fabric
    data: ImageData
    inputs: dict[str, Any]
    anew: bool
    """Whether what an interrupted stage left is of other inputs, and goes."""
    watch: Watch


def open_stage(claim: Claim, settings: Training, watch: Watch, *, overwrite: bool, accept: bool) -> Stage:
    """Look at all that is asked for before other processes are started, which would only repeat what is wrong."""
    compute = claim.recipe.compute
    batch_per_rank(settings.batch_size, compute.devices * compute.num_nodes)
    fabric = make_fabric(compute)
    origin = claim.origin(overwrite=overwrite)
    opened = open_inputs(
        claim.recipe, origin, lambda: launch(fabric, compute), accept=accept, progress=watch.on_reading
    )
    data = with_validation(opened.data, claim.recipe, claim.split_seed)
    anew = origin != claim.run and bool(changes(claim.run, opened.inputs, accept=True))
    return Stage(claim, fabric, data, opened.inputs, anew, watch)
