"""An attack as a sequence of phases over a test set: the clean images first, then one phase for each of its parts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType

import torch
from torch import Tensor, nn

from harp.attacks import PGD, Attack, Bounded, Settled, Threat, check_images
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


def phases_of(attack: Attack | None, classes: int, seed: int) -> list[Phase]:
    clean = Phase("clean", 1, lambda model, x, y, number: (x, []))
    if attack is None:
        return [clean]
    base = attack.base if isinstance(attack, Settled) else attack
    if not isinstance(base, AutoAttack):
        return [clean, plain_phase(attack, seed)]

    def part(name: str) -> Phase:
        def on_batch(model: nn.Module, x: Tensor, y: Tensor, number: int) -> tuple[Tensor, list[Note]]:
            found, said = base.attack_once(name, model, x, y)
            return found, [Note(text, FLAT) for text in said]

        return Phase(name, base.cost(name, classes), on_batch)

    return [clean, *(part(name) for name in base.suite(classes))]


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
    return [Note(f"{name} returned images outside {threat} or [0, 1]; they were brought back inside before they counted")]


def progress(journal: Journal, phases: Sequence[Phase], batch_size: int) -> tuple[int, int]:
    """The work done and all of it, as images: passes spent, over those plus the passes that today's survivors still face."""
    entering = [journal.images, *(int(right.sum()) for right in journal.finished.values())]
    spent, ahead = 0, 0
    for number, phase in enumerate(phases):
        if number < len(journal.finished):
            spent += phase.cost * entering[number]
        elif number == len(journal.finished):
            done = min(journal.batches * batch_size, entering[number])
            spent += phase.cost * done
            ahead += phase.cost * (entering[number] - done)
        else:
            ahead += phase.cost * int((journal.survivors if journal.right is None else journal.right).sum())
    return journal.images * spent // max(spent + ahead, 1), journal.images


def seed_for(attack: Attack | None, seed: int | None) -> int:
    if not isinstance(attack, AutoAttack | Settled):
        return 0 if seed is None else seed
    if seed not in (None, attack.seed):
        raise ValueError(
            f"seed={seed} but the AutoAttack has seed={attack.seed}; leave seed out, or write autoattack(threat, seed={seed})"
        )
    return attack.seed


def name_of(attack: Attack) -> str:
    if isinstance(attack, PGD | AutoAttack | Settled | Bounded):
        return attack.name
    return attack.__name__ if isinstance(attack, FunctionType) else type(attack).__name__


def threat_of(attack: Attack | None) -> Threat | None:
    return attack.threat if isinstance(attack, PGD | AutoAttack | Settled | Bounded) else None
