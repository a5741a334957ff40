"""One phase of an evaluation, batch by batch, from where its journal stands."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harp.attacks import as_labels, check_images, logits_of
from harp.attacks.autoattack import classified
from harp.attacks.minimal import distances
from harp.data import Images
from harp.evaluation.answers import answers
from harp.evaluation.journal import Journal
from harp.evaluation.networks import Networks
from harp.evaluation.notes import Note
from harp.evaluation.phases import Phase, entering
from harp.evaluation.ranks import Ranks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """Who is asked about which images, where."""

    networks: Networks
    data: Images
    order: Tensor
    batch_size: int
    place: torch.device
    ranks: Ranks


@dataclass(frozen=True)
class _Answer:
    """Of a batch: what is right, and whether that is so to what was attacked, too."""

    right: Tensor
    same: Tensor
    found: tuple[Tensor, Tensor, Tensor]
    """The model's classes, how sure it is, and how far the image is that fooled it; below zero where that is not known."""


def run_phase(phase: Phase, asked: Asked, journal: Journal) -> Iterator[None]:
    """Run one phase from where the journal stands, and write each batch down in it; of several ranks, each round of them."""
    began, ranks = time.perf_counter(), asked.ranks
    entered = entering(phase, journal).nonzero()[:, 0]
    right = journal.survivors.clone() if journal.right is None else journal.right
    same = torch.ones_like(right) if journal.same is None else journal.same
    batches = entered.split(asked.batch_size) if len(entered) else ()
    mine = batches[journal.batches + ranks.rank :: ranks.world]
    images = asked.data.batches(asked.order[torch.cat(mine)], asked.batch_size) if mine else iter(())
    for first in range(journal.batches, len(batches), ranks.world):
        number, batch = first + ranks.rank, next(images, None)  # none where the other ranks have the last ones
        answer, notes = ranks.unless_stopped(partial(_one_batch, phase, asked, batch, number))
        fresh = [torch.full_like(known, -1) for known in (journal.predicted, journal.confidence, journal.distance)]
        if answer is not None:
            right[batches[number]] &= answer.right
            same[batches[number]] &= answer.same
            for values, new in zip(fresh, answer.found, strict=True):
                values[batches[number]] = new
        right = ranks.all_of(right)
        if asked.networks.engine is not None:
            journal.same = same = ranks.all_of(same)
        _write_down(journal, phase, [ranks.largest_of(each) for each in fresh])
        journal.right, journal.batches = right, min(first + ranks.world, len(batches))
        journal.note(ranks.union(notes))
        journal.elapsed_s += time.perf_counter() - began
        began = time.perf_counter()
        if journal.batches < len(batches):
            yield
    log.info("%s leaves %d of %d images", phase.name, int(right.sum()), journal.images)
    journal.finish(phase.name, right)
    yield


def _write_down(journal: Journal, phase: Phase, fresh: list[Tensor]) -> None:
    """The answers to images that fell, too; how sure the network is, of clean images alone; the nearest image."""
    predicted, confidence, distance = fresh
    journal.predicted = torch.where(predicted >= 0, predicted, journal.predicted)
    if phase.name == "clean":
        journal.confidence = torch.where(confidence >= 0, confidence, journal.confidence)
    journal.distance = torch.where(distance >= 0, torch.minimum(distance, journal.distance), journal.distance)


def _one_batch(
    phase: Phase, asked: Asked, batch: tuple[Tensor, Tensor] | None, number: int
) -> tuple[_Answer | None, list[Note]]:
    """What comes out of a phase for one batch, and notes."""
    if batch is None:
        return None, []
    networks, (x, y) = asked.networks, (part.to(asked.place) for part in batch)
    if phase.name == "clean":
        check_images(x)
    x_adv, notes = phase.attack(networks.model if phase.in_torch else networks.attacked, x, y, number)
    logits = logits_of(networks.model, x_adv)
    if phase.name == "clean" and not logits.isfinite().all():
        raise ValueError("the model's output on clean images is NaN or infinite; its weights may be damaged")
    y = as_labels(y, *logits.shape)
    right, away = classified(logits, y), torch.full((len(x),), -1.0, dtype=torch.double, device=x.device)
    predicted, confidence = answers(logits, y, right)
    if (threat := phase.measures) is not None:
        away = torch.where(right, torch.inf, distances(x_adv, x, threat.norm))
        right = right | (away > threat.eps)
    if phase.name != "clean":
        predicted = torch.where(right, -1, predicted)
    same = torch.ones_like(right)
    if networks.engine is not None and not phase.in_torch:
        same = classified(logits_of(networks.engine, x_adv), y) == classified(logits, y)
    found = predicted.cpu(), confidence.cpu(), away.cpu()
    return _Answer(right.cpu(), same.cpu(), found), notes
