"""Which phases an evaluation has, given what it has found so far."""

from collections.abc import Callable

from harp.attacks import Attack, Settled
from harp.attacks.autoattack import square_note
from harp.attacks.settled import MOST, SQUARE, Round
from harp.evaluation.journal import Journal
from harp.evaluation.phases import Phase, phases_of

Plan = Callable[[Journal], list[Phase]]
"""All phases as far as they are known: those that are finished first, in their order, then those ahead."""


def plan_of(attack: Attack | None, classes: int, seed: int) -> Plan:
    """An attack's phases. Only those of `Settled` depend on what was found."""
    phases = phases_of(attack, classes, seed)
    if not isinstance(attack, Settled):
        return lambda journal: phases
    return lambda journal: [
        *phases,
        *(_phase(attack, one, classes) for one in _rounds(attack, classes, phases, journal)),
    ]


def found_by_rounds(journal: Journal, attack: Settled, classes: int) -> dict[str, int]:
    """How many images each round found that AutoAttack left."""
    left = [int(right.sum()) for right in journal.finished.values()]
    first = 1 + len(attack.base.suite(classes))
    names = list(journal.finished)
    return {names[i]: left[i - 1] - left[i] for i in range(first, len(names))}


def doubts_of(journal: Journal, attack: Settled, classes: int) -> list[str]:
    """What there is to doubt in AutoAttack's result, as far as it has come."""
    suite = attack.base.suite(classes)
    remaining = {name: float(journal.finished[name].float().mean()) for name in suite if name in journal.finished}
    return [*journal.doubts, *([SQUARE] if square_note(remaining) else [])]


def _rounds(attack: Settled, classes: int, phases: list[Phase], journal: Journal) -> list[Round]:
    """The rounds that were run, and those ahead: of an AutoAttack that is not at its end, all that may come."""
    doubts = doubts_of(journal, attack, classes)
    rounds = {each.name: each for each in attack.rounds(doubts)}
    found = found_by_rounds(journal, attack, classes)
    if unknown := [name for name in found if name not in rounds]:
        raise ValueError(f"the state of the evaluation has the rounds {unknown}; delete it to start again")
    done = [rounds[name] for name in found]
    left = int(journal.survivors.sum())
    if len(journal.finished) < len(phases):
        return list(attack.ahead(doubts, {}, float("inf"), classes))
    if not left:
        return done
    entering = [journal.images, *(int(right.sum()) for right in journal.finished.values())]
    whole = sum(phase.cost * number for phase, number in zip(phases, entering, strict=False))
    spent = whole + sum(
        attack.cost(name, classes) * entering[len(phases) + number] for number, name in enumerate(found)
    )
    return [*done, *attack.ahead(doubts, found, (MOST * whole - spent) / left, classes)]


def _phase(attack: Settled, one: Round, classes: int) -> Phase:
    return Phase(
        one.name,
        attack.cost(one.name, classes),
        lambda model, x, y, number: (attack.round_once(one, model, x, y), []),
        in_torch=one.in_torch,
    )
