"""Opening what a run directory holds: its recipe, its data, its network."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from harp.checkpoint import load_tensors, load_weights
from harp.data import ImageData, Streamed, load_data, split
from harp.data.soundness import known_broken, leave_out
from harp.data.source import MOVED
from harp.files import read_json, sha256_of
from harp.models import build_model
from harp.pruning import (
    Budget,
    attach_frozen_masks,
    budget_of_sites,
    channel_budget,
    masks,
    outside_masks,
    weight_budget,
)
from harp.pruning.channels import Widths, resize
from harp.recipes import Pruning, Recipe, recipe_in
from harp.runs.directory import RunDirectory
from harp.runs.inputs import listing_of


def open_run(path: Path) -> RunDirectory:
    """The finished run at ``path``. Raises ValueError saying what is missing and which command makes it."""
    run = RunDirectory(path)
    if not run.recipe.exists():
        raise ValueError(f"{path} is not a run directory: it has no {run.recipe.name}; `harp pretrain` makes one")
    if not run.finished:
        raise ValueError(
            f"{path} is not finished: it has no {run.card.name}; give the command that made it again to go on"
        )
    if not run.model.exists():
        raise ValueError(f"{path} has lost its {run.model.name}; make it again with --overwrite")
    return run


def open_dense(path: Path) -> RunDirectory:
    """The finished run at ``path``. Raises ValueError when it is pruned."""
    run = open_run(path)
    if run.masks.exists() or run.widths.exists():
        raise ValueError(f"{path} is pruned already; prune the dense run that it came from")
    return run


def open_pruned(path: Path) -> RunDirectory:
    """The finished run at ``path``. Raises ValueError when it is not pruned."""
    run = open_run(path)
    if not (run.masks.exists() or run.widths.exists()):
        raise ValueError(f"{path} has no masks to keep; `harp prune {path}` makes a pruned run to finetune")
    return run


def check_weights(weights: Path | None, recipe: Recipe, key: str | None = None, *, train: bool = False) -> None:
    if weights is not None and not weights.is_file():
        raise FileNotFoundError(f"weights={weights} is not a file; name a checkpoint of {recipe.task.model}")
    if train and weights is None:
        raise ValueError("train_weights needs weights to start from; name a checkpoint (--weights)")
    if key is not None and weights is None:
        raise ValueError(f"weights_key={key!r} names a network in a checkpoint; name the file, too (--weights)")


def recipe_of(path: Path) -> Recipe:
    """The recipe a run was made with."""
    return recipe_in(RunDirectory(path).recipe)


def split_seed_of(path: Path) -> int:
    """The seed that cut off the validation split for the first ancestor of a run, and so for all that follow from it.

    A child with another seed must not be evaluated on validation images that its parent was trained on.
    """
    seed = read_json(RunDirectory(path).recipe).get("split_seed", recipe_of(path).seed)
    if type(seed) is not int:
        raise ValueError(f"split_seed={seed!r} in {RunDirectory(path).recipe} must be a whole number; it is damaged")
    return seed


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


def build_network(recipe: Recipe, data: ImageData) -> nn.Module:
    """A fresh network of the recipe's architecture for these images and classes."""
    return _network(recipe, data.shape, len(data.classes))


def _network(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> nn.Module:
    task = recipe.task
    mean_std = (task.mean, task.std) if task.mean else None
    return build_model(task.model, shape=shape, classes=classes, mean_std=mean_std)


def make_budget(
    model: nn.Module, settings: Pruning, data: ImageData, *, sites: Collection[str] | None = None
) -> Budget:
    """The budget that a stage's settings name, measured on the network itself.

    Without the ``sites`` of masks that were made already, a pass through it is looked at: it may make its weights anew.
    """
    example = torch.zeros(1, *data.shape)
    if settings.of_channels:
        measures = ("macs", "parameters") if settings.measure == "both" else (settings.measure,)
        keeps = dict.fromkeys(measures, settings.keep)
        return channel_budget(model, example, keep=keeps, exclude=settings.exclude, multiple_of=settings.multiple_of)
    if sites is not None:
        return budget_of_sites(model, keep=settings.keep, exclude=settings.exclude, sites=sites)
    return weight_budget(model, keep=settings.keep, exclude=settings.exclude, include=settings.include, example=example)


def check_budget(recipe: Recipe, data: ImageData) -> None:
    """Raise ValueError where a network of this recipe, trained or not, cannot be brought to its budget."""
    make_budget(build_network(recipe, data), recipe.prune, data)


def load_network(path: Path, data: ImageData) -> nn.Module:
    """The network of a finished run, its masks attached and frozen when it is pruned.

    Raises ValueError when its files contradict each other.
    """
    run = open_run(path)
    recipe = recipe_of(path)
    model = build_network(recipe, data)
    if run.widths.exists():
        return load_weights(resize(model, _read_widths(run)), run.model)
    load_weights(model, run.model)
    if run.masks.exists():
        chosen = load_tensors(run.masks)
        budget = make_budget(model, recipe.prune, data, sites=list(chosen))
        attach_frozen_masks(model, chosen, budget)
        _check_masks(run, model, budget)
    elif (method := read_json(run.card).get("method")) is not None:
        raise ValueError(f"{path} was pruned by {method} and has lost its {run.masks.name}; make it again")
    return model


def open_teacher(path: Path, data: ImageData) -> nn.Module:
    """The dense network that a run came from, itself if it is dense: what distillation asks.

    Raises ValueError where it is not there any more, or is not what it was.
    """
    run, card = open_run(path), read_json(RunDirectory(path).card)
    while card.get("method") is not None:
        parent = RunDirectory(Path(os.path.normpath(run.path / card["parent"])))
        if not parent.finished:
            raise ValueError(
                f"distill needs the dense network that {run.path} came from, and {parent.path} is not there; put it back, "
                "or set distill to 0"
            )
        if read_json(run.recipe)["source_sha256"] != sha256_of(parent.model):
            raise ValueError(
                f"distill needs the network that {run.path} came from, and {parent.path} has changed since"
            )
        run, card = parent, read_json(parent.card)
    return load_network(run.path, data).requires_grad_(False).eval()


def open_network(path: Path) -> nn.Module:
    """The network of a finished run, plain: its masks are zeros among the weights. Of the data only shape and classes
    matter, which the card has; cards of harp 0.1 have no shape, and then the images are opened."""
    run, recipe = open_run(path), recipe_of(path)
    card = read_json(run.card)
    if (shape := card.get("shape")) is None:
        model = build_network(recipe, open_data(recipe, split_seed=split_seed_of(path)))
    else:
        model = _network(recipe, tuple(shape), len(card["classes"]))
    return load_weights(resize(model, _read_widths(run)) if run.widths.exists() else model, run.model)


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
