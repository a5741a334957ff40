"""What is looked at before the work begins: do images, labels and model fit together, and can attacks see anything?"""

from torch import Tensor, nn

from harp.attacks import PGD, Attack, AutoAttack, Bounded, Minimal, Settled, as_labels, check_images, logits_of
from harp.attacks.settled import OTHER, SATURATED
from harp.evaluation.behaviour import misbehaving
from harp.evaluation.notes import Note
from harp.evaluation.phases import threat_of
from harp.evaluation.sanity import misleading, probabilities, wavering

_LOOK = 32
"""Images that are looked at before the work begins."""


def check_model(model: nn.Module, x: Tensor, labels: Tensor) -> int:
    """The number of classes, once the first images, the model's output and the labels of all images fit together."""
    check_images(x)
    classes = logits_of(model, x[:_LOOK]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise ValueError(
            f"label {wrong} is out of range: the model has {classes} classes, so labels run from 0 to {classes - 1}; "
            "evaluate it on the data it was made for"
        )
    as_labels(labels, len(labels), classes)
    return classes


def first_notes(
    model: nn.Module, x: Tensor, y: Tensor, attack: Attack | None, classes: int, together: Tensor
) -> list[Note]:
    """What makes an accuracy hard to believe, found on the first images; ``together`` are two of them or more."""
    few, theirs = x[:_LOOK], y[:_LOOK]
    match attack:
        case AutoAttack() | Settled():
            notes = [*_authors(attack, model, x, y, classes), *misleading(model, few, theirs)]
        case PGD() | Bounded() | Minimal():
            notes = [*probabilities(model, few), *misleading(model, few, theirs)]
        case None:
            notes = []
        case _:
            notes = probabilities(model, few)
    if (threat := threat_of(attack)) is not None:
        notes += misbehaving(model, few, theirs, threat)
    return [*notes, *wavering(model, together)]


def _authors(attack: AutoAttack | Settled, model: nn.Module, x: Tensor, y: Tensor, classes: int) -> list[Note]:
    """In which ways AutoAttack is not the standard one, and what its authors check, who know a softmax, too."""
    base = attack.base if isinstance(attack, Settled) else attack
    said = base.check(model, x, y)
    kind = SATURATED if probabilities(model, x) else OTHER
    return [*map(Note, base.departures(classes)), *(Note(text, kind) for text in said), *map(Note, base.remarks(x))]
