"""An attack as a sequence of phases over a test set: the clean images first, then one phase for each of its parts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import cast

import torch
from torch import Tensor, nn

from harp.attacks import PGD, Attack, Minimal, Named, Settled, Threat, check_images
from harp.attacks.autoattack import AutoAttack, inside, seeded
from harp.attacks.bounded import outside
from harp.attacks.settled import FLAT
from harp.evaluation.journal import Journal
from harp.evaluation.notes import Note


@dataclass(frozen=True)
class Phase:
    """One pass over the images that are still right. ``attack`` also takes the batch's number and gives back notes."""

    name: str
    cost: int
    attack: Callable[[nn.Module, Tensor, Tensor, int], tuple[Tensor, list[Note]]]
    in_torch: bool = False
    """Whether it must see the model itself, and no engine that computes it."""
    measures: Threat | None = None
    """Where how far the images are that it finds counts, and not only whether they are in this ball: then it takes all images
    that are right clean, again."""


def phases_of(attack: Attack | None, classes: int, seed: int) -> list[Phase]:
    clean = Phase("clean", 1, lambda model, x, y, number: (x, []))
    if attack is None:
        return [clean]
    base = attack.base if isinstance(attack, Settled) else attack
    if isinstance(base, Minimal):
        return [clean, *(_measuring(base, name, classes) for name in base.parts)]
    if not isinstance(base, AutoAttack):
        return [clean, plain_phase(attack, seed)]

    def part(name: str) -> Phase:
        def on_batch(model: nn.Module, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, list[Note]]:
            found, said = base.attack_once(name, model, x, y)
            return found, [Note(text, FLAT) for text in said]

        return Phase(name, base.cost(name, classes), on_batch)

    return [clean, *(part(name) for name in base.suite(classes))]


def _measuring(attack: Minimal, name: str, classes: int) -> Phase:
    def on_batch(model: nn.Module, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, list[Note]]:
        return attack.part_once(name, model, x, y), []

    return Phase(name, attack.cost(name, classes), on_batch, measures=attack.threat)


def plain_phase(attack: Attack, seed: int) -> Phase:
    """An attack of a single part. Each batch has its own seed, so that it does not matter where a run was interrupted."""
    name, threat = name_of(attack), threat_of(attack)

    def on_batch(model: nn.Module, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, list[Note]]:
        digest = hashlib.sha256(f"{seed} {name} {number}".encode()).digest()
        with seeded(int.from_bytes(digest[:7])), torch.enable_grad():  # an attack of the user's may count on it
            x_adv = attack(model, x, y).detach()
        if x_adv.shape != x.shape:
            raise ValueError(f"{name} turned images of shape {tuple(x.shape)} into {tuple(x_adv.shape)}")
        if threat is not None:
            return inside(x_adv, x, threat), _escapes(name, x_adv, x, threat)
        try:
            check_images(x_adv)
        except ValueError as error:
            raise ValueError(f"{name} returned no images: {error}") from error
        return x_adv, []

    cost = 2 * attack.steps * attack.restarts if isinstance(attack, PGD) else 20
    return Phase(name, cost, on_batch)


def _escapes(name: str, x_adv: Tensor, x: Tensor, threat: Threat) -> list[Note]:
    if not outside(x_adv, x, threat).any():
        return []
    return [
        Note(f"{name} returned images outside {threat} or [0, 1]; they were brought back inside before they counted")
    ]


def entering(phase: Phase, journal: Journal) -> Tensor:
    """Which images the phase under way, or one that is next, takes."""
    return journal.finished["clean"] if phase.measures is not None else journal.survivors


def progress(journal: Journal, phases: Sequence[Phase], batch_size: int) -> tuple[int, int]:
    """The work done and all of it, as images: passes spent, over those plus the passes that today's survivors still face."""
    before = [journal.images, *(int(right.sum()) for right in journal.finished.values())]
    now = int((journal.survivors if journal.right is None else journal.right).sum())
    clean = before[1] if len(before) > 1 else now
    spent, ahead = 0, 0
    for number, phase in enumerate(phases):
        takes = clean if phase.measures is not None else before[number] if number < len(before) else now
        if number < len(journal.finished):
            spent += phase.cost * takes
        elif number == len(journal.finished):
            done = min(journal.batches * batch_size, takes)
            spent += phase.cost * done
            ahead += phase.cost * (takes - done)
        else:
            ahead += phase.cost * takes
    return journal.images * spent // max(spent + ahead, 1), journal.images


def seed_for(attack: Attack | None, seed: int | None) -> int:
    if not isinstance(attack, AutoAttack | Settled | Minimal):
        return 0 if seed is None else seed
    if seed not in (None, attack.seed):
        raise ValueError(
            f"seed={seed} but the {_title(attack)} has seed={attack.seed}; leave seed out, or write it into the attack: "
            f"autoattack(threat, seed={seed})"
        )
    return attack.seed


def _title(attack: AutoAttack | Settled | Minimal) -> str:
    return "AutoAttack" if isinstance(attack, AutoAttack) else attack.name


def name_of(attack: Attack) -> str:
    if threat_of(attack) is not None:
        return cast(Named, attack).name
    return attack.__name__ if isinstance(attack, FunctionType) else type(attack).__name__


def threat_of(attack: Attack | None) -> Threat | None:
    """The ball of an attack that has a name and a threat; None for any other."""
    return attack.threat if isinstance(attack, Named) and isinstance(attack.threat, Threat) else None
