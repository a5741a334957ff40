"""The images of a recipe: read from where they lie now, a validation split cut off."""

import os
from dataclasses import replace
from pathlib import Path

from harp.data import ImageData, Streamed, load_data, split
from harp.data.soundness import known_broken, leave_out
from harp.data.source import MOVED
from harp.recipes import Recipe
from harp.runs.directory import RunDirectory
from harp.runs.inputs import listing_of


def open_data(recipe: Recipe, *, split_seed: int | None = None, run: RunDirectory | None = None) -> ImageData:
    """The recipe's data with a validation split, without the files that ``run`` left out."""
    return with_validation(read_data(recipe, run), recipe, split_seed)


def read_data(recipe: Recipe, run: RunDirectory | None = None) -> ImageData:
    """The recipe's data as they are, without the files that ``run`` left out.

    Where the recipe names a root and the environment HARP_DATA, the images are taken from the latter: a run outlives
    the place that its images were in, and may be read on a machine where they lie elsewhere.
    """
    task = recipe.task
    root = None if task.root is None else Path(os.environ.get(MOVED, task.root))
    data = load_data(
        task.data,
        root=root,
        image_size=task.image_size,
        workers=recipe.compute.workers,
        download=task.download,
        skip_broken=task.skip_broken,
    )
    earlier = None if run is None else listing_of(run)
    if earlier is None or data.files is None or not isinstance(data.train, Streamed):
        return data
    return leave_out(data, known_broken(data.files, earlier))


def with_validation(data: ImageData, recipe: Recipe, split_seed: int | None = None) -> ImageData:
    """The data set's own validation split, or one cut from the training images by a seed."""
    if data.validation is not None:
        return data
    seed = recipe.seed if split_seed is None else split_seed
    train, validation = split(data.train, recipe.task.validation, seed=seed)
    return replace(data, train=train, validation=validation)
