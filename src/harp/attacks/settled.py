"""AutoAttack, and then whatever removes its doubts: a number that one can believe, or the doubt that remains."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harp.attacks import remedies
from harp.attacks.autoattack import STANDARD, AutoAttack, classified, inside, seeded, square_note
from harp.attacks.guard import as_images, as_labels, attacking, logits_of, single
from harp.attacks.remedies import Trial
from harp.attacks.threat import Threat

SATURATED, FLAT, SQUARE, OTHER = "saturated", "flat", "square", "other"
"""What gives reason to doubt: a loss that vanishes in rounding, no gradient, images that Square found, any other check."""
DOUBTS = (SATURATED, FLAT, SQUARE, OTHER)
EMPTY = 2
"""So many rounds in a row that find nothing settle it."""
MOST = 3
"""So many times the passes of AutoAttack are the most that is spent, AutoAttack included."""


@dataclass(frozen=True)
class Round:
    """One remedy, run on the images that are left. ``cures`` are the doubts that it is made for."""

    name: str
    cures: frozenset[str]
    run: Callable[[Trial, Tensor, Tensor], Tensor]
    in_torch: bool = False
    """Whether it needs gradients that only torch can make smooth."""


_ROUNDS = (
    Round("smooth", frozenset({FLAT, SQUARE}), remedies.smooth, in_torch=True),
    Round("square-again", frozenset({SQUARE}), remedies.square_again),
    Round("transfer", frozenset(), remedies.transfer, in_torch=True),
    Round("rescaled", frozenset({SATURATED}), remedies.rescaled),
    Round("larger-starts", frozenset(), remedies.larger_starts, in_torch=True),
    Round("square-finer", frozenset(), remedies.square_finer),
)


@dataclass(frozen=True)
class Settled:
    """AutoAttack, then rounds of remedies on the images that are left, if there is reason to doubt its result.

    It stops when two rounds in a row find nothing and every doubt has had the remedies made for it, and spends at most
    three times the passes of AutoAttack. ``parent`` is the dense network that the model was pruned from: images that
    fool it are where one of the rounds starts.
    """

    base: AutoAttack
    parent: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def threat(self) -> Threat:
        return self.base.threat

    @property
    def seed(self) -> int:
        return self.base.seed

    @property
    def name(self) -> str:
        return "settled"

    def rounds(self, doubts: Collection[str]) -> tuple[Round, ...]:
        """All that can be tried, in order: first what was made for these doubts. None without a doubt."""
        if not doubts or self.threat.eps == 0:
            return ()
        can = [
            each
            for each in _ROUNDS
            if ("square" in self.base.attacks or not each.name.startswith("square"))
            and (each.name != "transfer" or self.parent is not None)
        ]
        return tuple(sorted(can, key=lambda each: not each.cures & set(doubts)))

    def ahead(
        self, doubts: Collection[str], found: Mapping[str, int], affordable: int | float, classes: int
    ) -> Sequence[Round]:
        """The rounds that are still to be run, after those that ``found`` so many images each; empty once it is settled.

        ``affordable`` are the passes per image that may still be spent.
        """
        left = [each for each in self.rounds(doubts) if each.name not in found]
        owed = any(each.cures & set(doubts) for each in left)
        if self.is_empty(found) and not owed:
            return ()
        chosen = []
        for each in left:
            if (cost := self.cost(each.name, classes)) <= affordable:
                chosen.append(each)
                affordable -= cost
        return chosen

    def is_empty(self, found: Mapping[str, int]) -> bool:
        """Whether the last rounds found nothing."""
        last = list(found.values())[-EMPTY:]
        return len(last) == EMPTY and not any(last)

    def cost(self, name: str, classes: int) -> int:
        """About how many passes one image costs, forward or backward, of a round or of a part of AutoAttack."""
        run = 2 * self.base.iterations
        targeted = run * self.base.targets(classes) if classes >= 4 else 0
        costs = {
            "rescaled": remedies.RESTARTS * run,
            "smooth": remedies.RESTARTS * run + targeted,
            "transfer": 2 * run,
            "larger-starts": remedies.WIDER_RESTARTS * run,
            "square-again": self.base.queries,
            "square-finer": self.base.queries,
        }
        return costs[name] if name in costs else self.base.cost(name, classes)

    def round_once(self, one: Round, model: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "batch channels h w"]:
        """One round on one batch: images inside the threat. Whether they fool the model is for the caller to ask."""
        x = as_images(model, x)
        seed = (self.seed + 1 + _ROUNDS.index(one)) % 2**63
        with attacking(model), seeded(seed), torch.no_grad():
            labels = as_labels(y, len(x), logits_of(model, x[:1]).shape[1])
            found = one.run(Trial(self.base, model, self.parent, seed), single(x).contiguous(), labels).to(x.dtype)
        return inside(found, x, self.threat)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "batch channels h w"]:
        """The whole of it on one batch, decided by what AutoAttack met there alone."""
        x = as_images(model, x)
        result, classes = self.base.run(model, x, y), logits_of(model, x[:1]).shape[1]
        x_adv, counts = (
            result.x_adv.clone(),
            {name: float(left.float().mean()) for name, left in result.survived.items()},
        )
        doubts = [*([FLAT] if result.flat else []), *([SQUARE] if square_note(counts) else [])]
        found: dict[str, int] = {}
        affordable = (MOST - 1) * sum(self.base.cost(name, classes) for name in result.survived)
        while ahead := self.ahead(doubts, found, affordable, classes):
            with torch.no_grad():
                left = classified(logits_of(model, x_adv), y).nonzero()[:, 0]
            if not len(left):
                break
            tried = self.round_once(ahead[0], model, x[left], y[left])
            with torch.no_grad():
                beaten = ~classified(logits_of(model, tried), y[left])
            x_adv[left[beaten]] = tried[beaten]
            found[ahead[0].name] = int(beaten.sum())
            affordable -= self.cost(ahead[0].name, classes)
        return x_adv


def settled(
    threat: Threat, *, parent: nn.Module | None = None, seed: int = 0, attacks: tuple[str, ...] = STANDARD
) -> Settled:
    """AutoAttack with the authors' settings, and rounds of other attacks where there is reason to doubt its result.

    ``parent`` is the dense network that the model was pruned from, if it is at hand.
    """
    return Settled(AutoAttack(threat, seed, attacks), parent)
