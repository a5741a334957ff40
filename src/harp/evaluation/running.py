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
from harp.data import Images
from harp.evaluation.answers import answers, merged
from harp.evaluation.journal import Journal
from harp.evaluation.networks import Networks
from harp.evaluation.notes import Note
from harp.evaluation.phases import Phase
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
    """Of a batch: what is right, to the model and to what was attacked, the model's classes, and how sure it is."""

    right: Tensor
    same: Tensor
    predicted: Tensor
    confidence: Tensor


def run_phase(phase: Phase, asked: Asked, journal: Journal) -> Iterator[None]:
    """Run one phase from where the journal stands, and write each batch down in it; of several ranks, each round of them."""
    began, ranks = time.perf_counter(), asked.ranks
    entered = journal.survivors.nonzero()[:, 0]
    right = journal.survivors.clone() if journal.right is None else journal.right
    same = torch.ones_like(right) if journal.same is None else journal.same
    batches = entered.split(asked.batch_size) if len(entered) else ()
    mine = batches[journal.batches + ranks.rank :: ranks.world]
    images = asked.data.batches(asked.order[torch.cat(mine)], asked.batch_size) if mine else iter(())
    for first in range(journal.batches, len(batches), ranks.world):
        number, batch = first + ranks.rank, next(images, None)  # none where the other ranks have the last ones
        answer, notes = ranks.unless_stopped(partial(_one_batch, phase, asked, batch, number))
        fresh = torch.full_like(journal.predicted, -1), torch.full_like(journal.confidence, -1.0)
        if answer is not None:
            right[batches[number]] = answer.right
            same[batches[number]] &= answer.same
            fresh[0][batches[number]], fresh[1][batches[number]] = answer.predicted, answer.confidence
        right = ranks.all_of(right)
        if asked.networks.engine is not None:
            journal.same = same = ranks.all_of(same)
        _write_answers(journal, phase, [ranks.largest_of(each) for each in fresh])
        journal.right, journal.batches = right, min(first + ranks.world, len(batches))
        journal.note(ranks.union(notes))
        journal.elapsed_s += time.perf_counter() - began
        began = time.perf_counter()
        if journal.batches < len(batches):
            yield
    log.info("%s leaves %d of %d images", phase.name, int(right.sum()), journal.images)
    journal.finish(phase.name, right)
    yield


def _write_answers(journal: Journal, phase: Phase, fresh: list[Tensor]) -> None:
    """The answers to images that were attacked, too; how sure the network is, of clean images alone."""
    predicted, confidence = merged([journal.predicted, journal.confidence], fresh)
    journal.predicted = predicted
    if phase.name == "clean":
        journal.confidence = confidence


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
    right = classified(logits, y)
    same = torch.ones_like(right)
    if networks.engine is not None and not phase.in_torch:
        same = classified(logits_of(networks.engine, x_adv), y) == right
    return _Answer(right.cpu(), same.cpu(), *(each.cpu() for each in answers(logits, y, right))), notes
