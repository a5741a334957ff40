"""What a network answers, image by image: its classes, how sure it is, and what both give away."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harp.evaluation.notes import Note

BINS = 15
"""Of equal width, as in Guo et al. 2017."""
_SURE = 0.35
"""A wrong answer is sure that is as sure as all right ones but this share."""
_FEWEST, _SHARE = 5, 0.005
"""Sure answers off by the same number of classes: fewer than so many, or than this share, can be anything."""
_CLEAR = 5.0
"""Standard deviations above what is off by any other number."""
_CLASSES = 0.7
"""In so many classes there must be more of them than of those that are off in the other direction."""


def answers(
    logits: Float[Tensor, "batch classes"], y: Int[Tensor, " batch"], right: Bool[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The class of each image and how sure the network is of it. An answer that is not finite is wrong, and names the best wrong class."""
    wrong = logits.nan_to_num(float("-inf")).scatter(1, y[:, None], float("-inf")).argmax(1)
    confidence = logits.double().softmax(1).amax(1).nan_to_num(0.0)
    return torch.where(right, y, wrong), confidence


def confusion(labels: Int[Tensor, " images"], predicted: Int[Tensor, " images"]) -> tuple[tuple[int, int, int], ...]:
    """(class, answer, images), where there are any, in order; empty when an answer is not known."""
    if (predicted < 0).any():
        return ()
    pairs, counts = torch.stack([labels, predicted], 1).unique(dim=0, return_counts=True)
    return tuple((*pair, count) for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True))


def calibration(
    confidence: Float[Tensor, " images"], right: Bool[Tensor, " images"]
) -> tuple[tuple[int, int, float], ...]:
    """(images, right ones, mean confidence) by confidence, in 15 bins; empty when one is not known."""
    if (confidence < 0).any():
        return ()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    rows = []
    for number in range(BINS):
        inside = bins == number
        mean = float(confidence[inside].mean()) if inside.any() else 0.0
        rows.append((int(inside.sum()), int(right[inside].sum()), round(mean, 6)))
    return tuple(rows)


def shifted_labels(
    labels: Int[Tensor, " images"],
    predicted: Int[Tensor, " images"],
    confidence: Float[Tensor, " images"],
    classes: int,
) -> list[Note]:
    """Whether some labels seem to be off by a constant: the network is surely wrong, and always by as much.

    Mistakes of a network go both ways, in some classes more than in others, and it is less sure of them.
    """
    if (predicted < 0).any() or classes < 3:
        return []
    off = (labels - predicted) % classes
    if not (off == 0).any():
        return []
    sure = confidence >= confidence[off == 0].quantile(_SURE)
    for shift in dict.fromkeys((1, classes - 1)):
        here, there = sure & (off == shift), sure & (off == (classes - shift) % classes)
        others = int((sure & (off != 0)).sum() - here.sum()) / max(classes - 2, 1)
        if _is_clear(here, there, others, labels, classes):
            way, back = ("less", "more") if shift == 1 else ("more", "less")
            text = (
                f"labels seem to be off by one: at {int(here.sum()):,} of {len(labels):,} images the network is sure of the "
                f"class that is one {way} than the label, and at {int(there.sum()):,} of the one that is one {back}"
            )
            return [Note(text)]
    return []


def _is_clear(here: Tensor, there: Tensor, others: float, labels: Tensor, classes: int) -> bool:
    number = int(here.sum())
    if number < max(_FEWEST, _SHARE * len(labels), 2 * int(there.sum()), others + _CLEAR * max(others, 1.0) ** 0.5):
        return False
    balance = torch.bincount(labels[here], minlength=classes) - torch.bincount(labels[there], minlength=classes)
    seen = int((balance != 0).sum())
    return seen >= min(classes, number) / 2 and int((balance > 0).sum()) >= _CLASSES * seen
