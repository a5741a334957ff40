"""How long evaluations will take, from timed passes: of a run that is there, or of networks that are yet to be made."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from harp.attacks import attacking
from harp.cards import Evaluation, read_card
from harp.data import Images
from harp.dry_run.clock import NO_TIME, UNTRAINED, Clock, Range, Standing
from harp.evaluation import Ranks
from harp.evaluation.evaluating import evaluation_order
from harp.pruning import attach_masks, bake_masks, freeze_masks
from harp.recipes import Compute, Evaluating, Recipe
from harp.runs.budget import make_budget
from harp.runs.directory import RunDirectory
from harp.runs.images import open_data
from harp.runs.network import build_network, load_network
from harp.runs.opening import open_run
from harp.stages.attacks import attacks_of
from harp.stages.engine import choose_engine
from harp.stages.evaluate import lacks_corruptions, unanswered
from harp.training.distributed import alone, launch, make_fabric, place

log = logging.getLogger(__name__)

_PRUNED_CLEAN, _PRUNED_ROBUST = Range(0.6, 0.95, 1.0), Range(0.5, 0.85, 1.0)
"""What pruning leaves of a parent's accuracies, from 0.1 % to 50 % kept: with that, evaluations get shorter."""


def time_of_evaluation(path: Path, settings: Evaluating, compute: Compute) -> dict[str, Range]:
    """Seconds of each evaluation that the card of a finished run does not hold yet, by its attack in words."""
    run = open_run(path)
    recipe = run.recipe
    attacks_of(settings, recipe)
    data = open_data(recipe)
    images = settings.images_of(len(data.test))
    left = unanswered(path, settings, len(data.test))
    corrupted = lacks_corruptions(path, settings, len(data.test))
    if not left and not corrupted:
        return {}
    fabric = launch(make_fabric(alone(compute)), compute)
    model = place(load_network(run, data), fabric.device, channels_last=compute.channels_last)
    clock = _clock(model, data.test, settings, compute, fabric.device)
    found = {
        "clean" if attack is None else f"{attack.name} {attack.threat}": clock.evaluation(attack, images)
        for attack in left
    }
    if corrupted:
        found["corruptions"] = _corrupted(model, data.test, images, fabric.device)
    return found


def time_to_evaluate(recipe: Recipe, standing: Standing = UNTRAINED, *, pruned: bool = True) -> Range:
    """Seconds of all evaluations of one network of this recipe that is yet to be made; its zeros count on the engine."""
    data, settings, compute = open_data(recipe), recipe.test, recipe.compute
    fabric = launch(make_fabric(alone(compute)), compute)
    model = build_network(recipe, data)
    if pruned and compute.engine != "torch":
        attach_masks(model, make_budget(model, recipe.prune, data))
        bake_masks(freeze_masks(model))
    model = place(model, fabric.device, channels_last=compute.channels_last)
    clock = _clock(model, data.test, settings, compute, fabric.device)
    images = settings.images_of(len(data.test))
    total = NO_TIME
    for attack in attacks_of(settings, recipe):
        total += clock.evaluation(attack, images, standing)
    if settings.corruptions:
        total += _corrupted(model, data.test, images, fabric.device)
    return total


def _corrupted(model: nn.Module, test: Images, images: int, device: torch.device) -> Range:
    """Seconds under all common corruptions, from those of two images."""
    from harp.evaluation.corrupting import evaluate_corrupted  # which needs scipy, and nothing else in a run does

    seconds = evaluate_corrupted(model, test, images=2, batch_size=2, device=device).elapsed_s / 2 * images
    return Range(seconds, seconds, seconds)


def _clock(model: nn.Module, test: Images, settings: Evaluating, compute: Compute, device: torch.device) -> Clock:
    """Attacks are timed on what `harp evaluate` would choose."""
    clock = Clock(model, test, settings.batch_size, device)
    if compute.engine == "torch":
        return clock
    x, y = next(test.batches(evaluation_order(len(test))[: settings.batch_size], settings.batch_size))
    with attacking(model):
        chosen = choose_engine(compute.engine, model, (x.to(device), y.to(device)), ranks=Ranks(), tell=log.info)
    return clock if chosen is None else replace(clock, engine=chosen.module())


def standing_below(parents: Iterable[Path], recipe: Recipe) -> Standing:
    """Where networks pruned from these parents will stand: below them, where the parents were evaluated."""
    attack = attacks_of(recipe.test, recipe)[-1]
    cards = [RunDirectory(parent).card for parent in parents]
    known = [each for card in cards if card.exists() for each in read_card(card).evaluations]
    clean = _mean(each for each in known if each.attack == "clean")
    robust = _mean(each for each in known if attack and (each.attack, each.eps) == (attack.name, attack.threat.eps))
    return Standing(
        UNTRAINED.clean if clean is None else _PRUNED_CLEAN * clean,
        UNTRAINED.robust if robust is None else _PRUNED_ROBUST * robust,
    )


def _mean(found: Iterable[Evaluation]) -> float | None:
    accuracies = [each.accuracy for each in found]
    return sum(accuracies) / len(accuracies) if accuracies else None
