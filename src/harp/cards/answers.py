"""What a network answered, class by class, and how sure it was: as it stands on a card, and what follows from it."""

from collections.abc import Sequence

from harp.cards.fields import Fields

Confusion = tuple[tuple[int, int, int], ...]
"""(class, answer, images) wherever there are any, in order."""
Calibration = tuple[tuple[int, int, float], ...]
"""(images, right ones, mean confidence) by confidence, in bins of equal width."""


def accuracy_by_class(confusion: Confusion) -> dict[int, tuple[int, int]]:
    """(right, images) of every class that there is."""
    found: dict[int, tuple[int, int]] = {}
    for label, answer, images in confusion:
        right, total = found.get(label, (0, 0))
        found[label] = right + images * (label == answer), total + images
    return found


def calibration_error(calibration: Calibration) -> float | None:
    """The expected calibration error: the mean distance of confidence and accuracy, each bin with the share of its images."""
    total = sum(images for images, _, _ in calibration)
    if not total:
        return None
    return sum(abs(right - images * sure) for images, right, sure in calibration) / total


def check_answers(confusion: Confusion, calibration: Calibration, images: int, correct: int) -> None:
    """Raises ValueError where they are not of so many images, so many of them right."""
    if confusion and (
        sum(row[2] for row in confusion) != images or sum(row[2] for row in confusion if row[0] == row[1]) != correct
    ):
        raise ValueError(f"confusion must hold {images} images, {correct} of them right, as the counts say")
    if len({row[:2] for row in confusion}) < len(confusion):
        raise ValueError("confusion must name each pair of a class and an answer once")
    if calibration and (sum(row[0] for row in calibration), sum(row[1] for row in calibration)) != (images, correct):
        raise ValueError(f"calibration must hold {images} images, {correct} of them right, as the counts say")
    if any(right > number or not 0 <= sure <= 1 for number, right, sure in calibration):
        raise ValueError("calibration must hold no more right images than images, and a confidence in [0, 1]")


def read_confusion(fields: Fields) -> Confusion:
    rows = fields.rows("confusion", 3)
    if not all(_is_count(value) for row in rows for value in row):
        fields.fail("confusion", "rows of a class, an answer and a number of images")
    return tuple((int(a), int(b), int(c)) for a, b, c in rows)


def read_calibration(fields: Fields) -> Calibration:
    rows = fields.rows("calibration", 3)
    if not all(_is_count(row[0]) and _is_count(row[1]) for row in rows):
        fields.fail("calibration", "rows of a number of images, of right ones, and a confidence")
    return tuple((int(a), int(b), float(c)) for a, b, c in rows)


def _is_count(value: int | float) -> bool:
    return isinstance(value, int) and value >= 0


def as_rows(rows: Sequence[Sequence[int | float]]) -> list[list[int | float]]:
    return [list(row) for row in rows]
