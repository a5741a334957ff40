"""How long a stage is for a number of images: in epochs and in optimiser steps."""

import math
from dataclasses import replace
from typing import TypeVar

from harp.recipes.settings import Recipe
from harp.recipes.training import Training

FEW_STEPS = 100
"""Fewer optimiser steps than this hardly move a network; the shortest stage of a preset has more than twice as many."""

Settings = TypeVar("Settings", bound=Training)


def steps_per_epoch(images: int, batch_size: int, world: int = 1) -> int:
    """Batches that each of ``world`` ranks takes in an epoch."""
    return math.ceil(images_used(images, batch_size, world) / batch_size)


def images_used(images: int, batch_size: int, world: int) -> int:
    """Images of an epoch: the same number on every rank, and no last batch of one each."""
    used = images // world * world
    # Batch norm cannot train on a single image.
    return used - world if used % batch_size == world and used > world else used


def steps_of(settings: Training, images: int) -> int:
    """Optimiser steps of a stage on so many training images."""
    return in_epochs(settings, images).epochs * _updates_per_epoch(settings, images)


def in_epochs(settings: Settings, images: int) -> Settings:
    """The settings with all the epochs that ``min_steps`` asks for on so many training images, and no ``min_steps``.

    Counted as on one device, so that another number of devices changes nothing.
    """
    needed = -(-settings.min_steps // _updates_per_epoch(settings, images))
    return replace(settings, epochs=max(settings.epochs, needed), min_steps=0)


def from_parent(recipe: Recipe, images: int) -> Recipe:
    """The recipe with the lengths of pruning and finetuning in epochs: what methods are given the same passes from."""
    return replace(recipe, prune=in_epochs(recipe.prune, images), finetune=in_epochs(recipe.finetune, images))


def few_steps(settings: Training, images: int) -> str | None:
    """What to say of a stage that is too short to learn anything, before it starts; None of any other."""
    steps = steps_of(settings, images)
    if steps >= FEW_STEPS:
        return None
    return (
        f"{steps} optimiser steps are few ({in_epochs(settings, images).epochs} epochs of {images:,} training images): "
        f"the network may stay at chance; raise epochs, or set min_steps to {2 * FEW_STEPS} or more"
    )


def _updates_per_epoch(settings: Training, images: int) -> int:
    return max(1, steps_per_epoch(images, settings.batch_size)) * settings.steps_per_batch
