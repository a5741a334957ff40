"""From a finished journal to the `Evaluation` that goes on the card."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from harp.attacks import PGD, Attack, AutoAttack, Minimal, Settled
from harp.attacks.autoattack import square_note
from harp.attacks.settled import OTHER
from harp.cards import Evaluation
from harp.evaluation.answers import calibration, confusion, shifted_labels
from harp.evaluation.journal import Journal
from harp.evaluation.notes import texts
from harp.evaluation.phases import name_of, threat_of
from harp.evaluation.planning import doubts_of, found_by_rounds
from harp.evaluation.result import pack
from harp.evaluation.sanity import unbounded_smoothly
from harp.recipes import chance_words

_CHOSEN = ("step_size", "random_start", "restarts")
"""What PGD can be told beyond its name."""


def outcome(attack: Attack | None, journal: Journal, notes: list[str], seed: int, labels: Tensor) -> Evaluation:
    """What a finished evaluation found; ``labels`` are those of its images, in order."""
    *_, right = journal.finished.values()
    remaining = {name: float(left.float().mean()) for name, left in journal.finished.items() if name != "clean"}
    whole = isinstance(attack, AutoAttack | Settled | Minimal)
    threat = threat_of(attack)
    chosen = {} if not isinstance(attack, PGD) else {name: getattr(attack, name) for name in _CHOSEN}
    said = [*notes, *(square_note(remaining) if isinstance(attack, AutoAttack) else [])]
    found = Evaluation(
        attack="clean" if attack is None else name_of(attack),
        norm=None if threat is None else threat.norm,
        eps=None if threat is None else threat.eps,
        images=journal.images,
        correct=int(right.sum()),
        seed=seed,
        elapsed_s=journal.elapsed_s,
        per_attack=remaining if whole else {},
        notes=tuple(dict.fromkeys(said)),
        right=pack(right),
        **chosen,
        chance=int(labels.bincount().max()) / len(labels),
        confusion=confusion(labels, journal.predicted),
        calibration=calibration(journal.confidence, right) if attack is None else (),
        distances=_distances(journal) if isinstance(attack, Minimal) else (),
    )
    if found.at_chance:
        return replace(found, notes=(*found.notes, chance_words(found.chance or 0.0)))
    return found


def _distances(journal: Journal) -> tuple[float | None, ...]:
    """Of each image; 0 where it is wrong as it is, None where nothing fooled the network."""
    known = torch.where(journal.finished["clean"], journal.distance, 0.0).tolist()
    return tuple(None if away == math.inf else round(away, 9) for away in known)


def about_labels(journal: Journal, labels: Tensor, classes: int) -> list[str]:
    """What the answers to the clean images say of the labels."""
    clean = torch.where(journal.finished["clean"], labels, journal.predicted)
    return texts(shifted_labels(labels, clean, journal.confidence, classes))


def about_rounds(attack: Settled, journal: Journal, classes: int, model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """What the rounds found, and the doubt that remains; ``x`` are a few of the images that are left."""
    doubts, found = doubts_of(journal, attack, classes), found_by_rounds(journal, attack, classes)
    suite = attack.base.suite(classes)
    counts = {name: float(journal.finished[name].float().mean()) for name in suite}
    said = square_note(counts)
    if doubts and not found and len(x):
        said.append(f"doubt remains ({', '.join(doubts)}): no round after AutoAttack was affordable or possible")
    if not found:
        return said
    rounds = f"{len(found)} {'round' if len(found) == 1 else 'rounds'}"
    said.append(
        f"{rounds} after AutoAttack found {sum(found.values())} more of {journal.images:,} images ({_counted(found)})"
    )
    if len(x) and not attack.is_empty(found):
        said.append("doubt remains: the last rounds still found images, and there was nothing left to try")
    if len(x) and OTHER in doubts:
        said += unbounded_smoothly(model, x, y)
    return said


def _counted(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


def few_left(journal: Journal, order: Tensor, most: int) -> Tensor:
    """The numbers of the first images that are still right."""
    *_, right = journal.finished.values()
    return order[torch.nonzero(right)[:most, 0]]
