"""Open the images of a stage or an evaluation: compared with those of the run it starts from, and none of them broken."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric

from harp.data import ImageData
from harp.data.fingerprint import fingerprint
from harp.data.listing import unchanged_folders
from harp.data.soundness import Progress, leave_out, report_broken, streamed_files, unreadable
from harp.evaluation import Ranks
from harp.recipes import Recipe
from harp.runs.directory import RunDirectory
from harp.runs.images import read_data
from harp.runs.inputs import changes, inputs_of, listing_of, read_inputs


@dataclass(frozen=True)
class Opened:
    """The images, without a validation split cut off, and what ``inputs.json`` will say of them."""

    data: ImageData
    inputs: dict[str, Any]
    fabric: Fabric


def open_inputs(
    recipe: Recipe, origin: RunDirectory | None, launch: Callable[[], Fabric], *, accept: bool, progress: Progress
) -> Opened:
    """Open the recipe's images. Raises ChangedInputs where they are not those of ``origin``, unless to ``accept`` them.

    ``launch`` starts the other processes, if there are to be several, once this was compared; together they then
    decode what is streamed, but for folders that have not changed since ``origin``. Raises ValueError that lists all
    files that cannot be read, unless the recipe says to skip them.
    """
    data = read_data(recipe, origin)
    inputs = inputs_of(recipe, data)
    found = () if origin is None else changes(origin, inputs, accept=accept)
    fabric = launch()
    data = _look_through(data, recipe, origin, Ranks(fabric.global_rank, fabric.world_size, fabric.device), progress)
    before = None if origin is None else read_inputs(origin)
    accepted = [*(before["accepted"] if before else []), *found]
    return Opened(data, {**inputs, "data": fingerprint(data), "accepted": accepted}, fabric)


def _look_through(
    data: ImageData, recipe: Recipe, origin: RunDirectory | None, ranks: Ranks, progress: Progress
) -> ImageData:
    if data.files is None:
        return data
    earlier = None if origin is None else listing_of(origin)
    same = set() if earlier is None else unchanged_folders(data.files, earlier)
    files = [(path, name) for name, path in streamed_files(data).items() if data.files.folder_of(name) not in same]
    mine = dict(files[ranks.rank :: ranks.world])
    threads = max(1, (os.cpu_count() or 1) // ranks.world)
    wrong = unreadable(list(mine), threads=threads, progress=progress)
    broken = dict(sorted(map(json.loads, ranks.union([json.dumps([mine[path], why]) for path, why in wrong.items()]))))
    if broken:
        report_broken(broken, sum(map(len, data.splits.values())), skip=recipe.task.skip_broken)
    return leave_out(data, broken)
