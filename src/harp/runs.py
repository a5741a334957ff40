"""Opening what a run directory holds: its recipe, its data, its network."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from .checkpoint import RunDirectory, load_tensors, load_weights
from .data import ImageData, load_data, split
from .models import build_model
from .pruning import attach_frozen_masks
from .recipes import Recipe, recipe_in


def open_run(path: Path) -> RunDirectory:
    """The finished run at ``path``. Raises ValueError saying what is missing and which command makes it."""
    run = RunDirectory(path)
    if not run.recipe.exists():
        raise ValueError(f"{path} is not a run directory: it has no {run.recipe.name}; `harp pretrain` makes one")
    if not run.finished:
        raise ValueError(
            f"{path} is not finished: it has no {run.card.name}; give the command that made it again to go on"
        )
    return run


def recipe_of(path: Path) -> Recipe:
    """The recipe a run was made with."""
    return recipe_in(RunDirectory(path).recipe)


def open_data(recipe: Recipe) -> ImageData:
    """The recipe's data with a validation split: the data set's own, or one cut from the training images by the seed."""
    task = recipe.task
    data = load_data(
        task.data, root=task.root, image_size=task.image_size, workers=recipe.compute.workers, download=task.download
    )
    if data.validation is not None:
        return data
    train, validation = split(data.train, task.validation, seed=recipe.seed)
    return replace(data, train=train, validation=validation)


def build_network(recipe: Recipe, data: ImageData) -> nn.Module:
    """A fresh network of the recipe's architecture for these images and classes."""
    task = recipe.task
    mean_std = (task.mean, task.std) if task.mean else None
    return build_model(task.model, shape=data.shape, classes=len(data.classes), mean_std=mean_std)


def load_network(path: Path, data: ImageData) -> nn.Module:
    """The network of a finished run, its masks attached and frozen when it is pruned."""
    run = open_run(path)
    model = load_weights(build_network(recipe_of(path), data), run.model)
    if run.masks.exists():
        attach_frozen_masks(model, load_tensors(run.masks))
    return model
