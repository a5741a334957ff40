"""How long an evaluation will take, from a few timed iterations of every part of the attack on the network at hand.

An attack works on the images that are still right: all on clean images, those answered right in the first part of an attack,
and those that survived it in each later one. How many that will be is estimated, or assumed, as a range; the rest is timed.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.attacks import PGD, Minimal, Settled, Threat, attacking
from harp.attacks.autoattack import AutoAttack, classified
from harp.attacks.settled import MOST
from harp.cards import wilson
from harp.data import Images
from harp.evaluation.evaluating import evaluation_order
from harp.evaluation.phases import Phase, phases_of, seed_for
from harp.evaluation.sanity import misleading
from harp.pruning import hold_masks

_Timed = PGD | AutoAttack | Minimal | None
Attacked = _Timed | Settled

_SHORT, _LONG = 2, 8
"""Iterations of the two runs of a part: their difference leaves out what is done once."""
_QUERIES = 5
"""Of Square, for each of those iterations: they are cheaper."""
_ENOUGH_S = 2.0
"""About how long a part is timed for each of two numbers of images; a large network then gets fewer images."""
_LOOK = 32
"""Images that are looked at for doubts."""
_HARMLESS = 1e-4
"""Of a threat's eps, while parts of its attack are timed on images that are labelled as the network answers."""
_PGD_TO_AUTOATTACK = 0.95
"""AutoAttack leaves a little less than PGD-10 does: on the networks of results/, 0.85 to 1."""
_WEAKEST = 0.8
_DOUBTED = 2.0
"""Times the passes of AutoAttack where there is reason to doubt it: between two, when the rounds find nothing, and three."""


@dataclass(frozen=True)
class Range:
    """A number that is not known exactly."""

    low: int | float
    expected: int | float
    high: int | float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, times: int | float) -> "Range":
        return Range(self.low * times, self.expected * times, self.high * times)


NO_TIME = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Standing:
    """Which share of the test images is right on clean images, and which withstands the attack."""

    clean: Range
    robust: Range


UNTRAINED = Standing(clean=Range(0.6, 0.9, 1.0), robust=Range(0.3, 0.6, 1.0))
"""What is assumed of a network that is yet to be trained."""


@dataclass(frozen=True)
class Pace:
    """What one unit of a part's cost takes: so long for a batch, and so long more for each of its images."""

    batch_s: float
    image_s: float

    def seconds(self, cost: int | float, images: int | float, batch_size: int) -> int | float:
        return cost * (self.batch_s * math.ceil(images / batch_size) + self.image_s * images)


@dataclass(frozen=True)
class Clock:
    """Times parts of attacks on the first images of a test set; nothing of the model is changed.

    ``engine`` is what attacks are made on, if that is not the model."""

    model: nn.Module
    data: Images
    batch_size: int
    device: torch.device
    seed: int = 0
    engine: nn.Module | None = None

    @property
    def _attacked(self) -> nn.Module:
        return self.engine or self.model

    def evaluation(self, attack: Attacked, images: int, standing: Standing | None = None) -> Range:
        """Seconds of one evaluation on so many images; a ``standing`` of None is estimated on some of them.

        `Settled` takes as long as AutoAttack where that is not doubted, and three times as long at most.
        """
        if isinstance(attack, Settled):
            found = self.evaluation(attack.base, images, standing)
            return Range(found.low, found.expected * (_DOUBTED if self._doubted() else 1.0), found.high * MOST)
        with attacking(self.model), hold_masks(self.model), torch.no_grad():
            x, y = self._batch(min(self.batch_size, images))
            logits = self.model(x)
            classes = logits.shape[1]
            pass_s = self._pass_seconds(x, y)
            if standing is None and attack is not None:
                standing = self._look(attack.threat, images, pass_s)
            total = NO_TIME
            phases = phases_of(attack, classes, seed_for(attack, None))
            for number, phase in enumerate(phases):
                pace = self._pace(phase, _withstood(attack), x, logits.argmax(1), classes, pass_s)
                again = 1 if phase.measures is not None else 2  # these take all images that are right clean
                entering = (Range(1, 1, 1), standing and standing.clean, standing and standing.robust)[
                    min(number, again)
                ]
                assert entering is not None
                counts = (entering.low, entering.expected, entering.high)
                total += Range(*(pace.seconds(phase.cost, images * share, self.batch_size) for share in counts))
        return total

    def _doubted(self) -> bool:
        """Whether the first images alone give reason to doubt an attack."""
        with attacking(self.model), hold_masks(self.model), torch.no_grad():
            return bool(misleading(self.model, *self._batch(min(_LOOK, len(self.data)))))

    def _batch(self, images: int) -> tuple[Tensor, Tensor]:
        order = evaluation_order(len(self.data))[:images]
        x, y = next(self.data.batches(order, images))
        return x.to(self.device), y.to(self.device)

    def _pass_seconds(self, x: Tensor, y: Tensor) -> float:
        """One forward or backward pass of one image, about: how many images can be afforded."""
        few = min(8, len(x))

        def passes() -> None:
            with torch.enable_grad():
                image = x[:few].clone().requires_grad_(True)
                torch.autograd.grad(F.cross_entropy(self._attacked(image), y[:few]), image)

        self._timed(passes)
        return self._timed(passes) / 2 / few

    def _look(self, threat: Threat, images: int, pass_s: float) -> Standing:
        """Clean and robust shares under PGD-10, on as many images as can be afforded, with their intervals."""
        many = max(1, min(images, self.batch_size, int(4 * _ENOUGH_S / (22 * pass_s))))
        x, y = self._batch(many)
        right = classified(self.model(x), y)
        with torch.enable_grad():
            attacked = PGD(threat, steps=10)(self._attacked, x, y).detach()
        left = right & classified(self.model(attacked), y)
        clean, robust = int(right.sum()), int(left.sum())
        clean_low, clean_high = wilson(clean, many)
        robust_low, robust_high = wilson(robust, many)
        return Standing(
            Range(clean_low, clean / many, clean_high),
            Range(_WEAKEST * robust_low, _PGD_TO_AUTOATTACK * robust / many, robust_high),
        )

    def _pace(self, phase: Phase, attack: _Timed, x: Tensor, y: Tensor, classes: int, pass_s: float) -> Pace:
        affordable = max(1, int(_ENOUGH_S / (pass_s * 2 * 2 * (2 * _SHORT + _LONG))))
        most = min(len(x), affordable)
        few = max(1, most // 4)
        at_most = self._unit_seconds(phase, attack, x[:most], y[:most], classes)
        at_few = self._unit_seconds(phase, attack, x[:few], y[:few], classes)
        if most == few:
            return Pace(0.0, at_most / most)
        # Of two noisy times neither part is negative.
        image_s = min(max((at_most - at_few) / (most - few), 0.0), at_most / most)
        return Pace(at_most - most * image_s, image_s)

    def _unit_seconds(self, phase: Phase, attack: _Timed, x: Tensor, y: Tensor, classes: int) -> float:
        """A unit of cost on this batch."""
        if attack is None or phase.name == "clean":
            self._timed(lambda: self.model(x))
            return self._timed(lambda: self.model(x))
        timed: list[tuple[float, int | float]] = []
        for iterations in (_SHORT, _SHORT, _LONG):  # the first to warm up
            part, cost = _shortened(phase, attack, iterations, classes)
            timed.append((self._timed(lambda part=part: part.attack(self._attacked, x, y, 0)), cost))
        (_, _), (short_s, short), (long_s, long) = timed
        slope = (long_s - short_s) / (long - short)
        return slope if slope > 0 else long_s / long

    def _timed(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _withstood(attack: _Timed) -> _Timed:
    """The attack with a threat so small that no image falls: an untrained network would lose all of them at once."""
    return attack and replace(attack, threat=replace(attack.threat, eps=_HARMLESS * attack.threat.eps))


def _shortened(
    phase: Phase, attack: PGD | AutoAttack | Minimal, iterations: int, classes: int
) -> tuple[Phase, int | float]:
    """A part of an attack with few iterations, and what they cost in the units of the whole."""
    if isinstance(attack, PGD):
        part = phases_of(replace(attack, steps=iterations, restarts=1), classes, 0)[-1]
        return part, part.cost
    if isinstance(attack, Minimal):
        part = next(
            each for each in phases_of(replace(attack, steps=iterations), classes, 0) if each.name == phase.name
        )
        return part, part.cost
    short = replace(attack, iterations=iterations, target_classes=1, queries=_QUERIES * iterations)
    part = next(part for part in phases_of(short, classes, 0) if part.name == phase.name)
    return part, part.cost
