"""The network of a recipe, and that of a finished run."""

from torch import nn

from harp.checkpoint import load_tensors, load_weights
from harp.data import ImageData
from harp.files import read_json
from harp.models import build_model
from harp.pruning import Budget, attach_frozen_masks, masks, outside_masks
from harp.pruning.channels import Widths, resize
from harp.recipes import Recipe
from harp.runs.budget import make_budget
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.opening import FinishedRun


def build_network(recipe: Recipe, data: ImageData) -> nn.Module:
    """A fresh network of the recipe's architecture for these images and classes."""
    return _network(recipe, data.shape, len(data.classes))


def _network(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> nn.Module:
    task = recipe.task
    mean_std = (task.mean, task.std) if task.mean else None
    return build_model(task.model, shape=shape, classes=classes, mean_std=mean_std)


def load_network(run: FinishedRun, data: ImageData) -> nn.Module:
    """The network of a finished run, its masks attached and frozen when it is pruned.

    Raises ValueError when its files contradict each other.
    """
    files, recipe = run.directory, run.recipe
    model = build_network(recipe, data)
    if files.widths.exists():
        return load_weights(resize(model, _read_widths(files)), files.model)
    load_weights(model, files.model)
    if files.masks.exists():
        chosen = load_tensors(files.masks)
        budget = make_budget(model, recipe.prune, data, sites=list(chosen))
        attach_frozen_masks(model, chosen, budget)
        _check_masks(files, model, budget)
    elif (method := read_json(files.card).get("method")) is not None:
        raise ValueError(f"{run.path} was pruned by {method} and has lost its {files.masks.name}; make it again")
    return model


def open_network(run: FinishedRun) -> nn.Module:
    """The network of a finished run, plain: its masks are zeros among the weights. Of the data only shape and classes
    matter, which the card has; cards of harp 0.1 have no shape, and then the images are opened."""
    files, recipe = run.directory, run.recipe
    card = read_json(files.card)
    if (shape := card.get("shape")) is None:
        model = build_network(recipe, open_data(recipe, split_seed=run.split_seed))
    else:
        model = _network(recipe, tuple(shape), len(card["classes"]))
    return load_weights(resize(model, _read_widths(files)) if files.widths.exists() else model, files.model)


def _read_widths(run: RunDirectory) -> Widths:
    widths = read_json(run.widths)
    if not all(isinstance(entry, dict) for entry in widths.values()):
        raise ValueError(f"{run.widths} must hold an object for each module; it is damaged")
    return widths


def _check_masks(run: RunDirectory, model: nn.Module, budget: Budget) -> None:
    counts = {name: mask.count for name, mask in masks(model).items()}
    if not budget.allows(counts):
        raise ValueError(f"{run.masks} keeps more than {budget.limit:,} {budget.unit}; make the run again")
    card = read_json(run.card)
    if (budget.layers(model, counts), budget.channels(counts)) != (card.get("layers"), card.get("channels")):
        raise ValueError(f"{run.masks} keeps other {budget.parts} than {run.card} says; make the run again")
    if outside := outside_masks(model):
        raise ValueError(f"{run.model} has weights outside the masks of {run.masks} in {outside}; make the run again")
