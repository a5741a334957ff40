"""The grid of test images: clean, attacked, the amplified difference, and what each network said before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harp.recipes import attack_label
from harp.report.examples import Examples, amplification, change_uri, image_uri
from harp.report.family import Family, Look
from harp.report.reading import Run
from harp.report.wording import eps_from_text

LARGEST_PIXELATED = 64  # pixels; up to here an image is shown as sharp squares


@dataclass(frozen=True)
class Answer:
    name: str
    right: bool


@dataclass(frozen=True)
class Shot:
    """One image attacked for one network."""

    attacked: str
    change: str
    before: Answer
    after: Answer


@dataclass(frozen=True)
class GalleryRow:
    number: int
    truth: str
    clean: str
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Gallery:
    """Runs that were attacked on the same test images."""

    columns: tuple[tuple[Look, str], ...]  # look, and the attack in words
    rows: tuple[GalleryRow, ...]
    factor: int
    pixelated: bool


def galleries(family: Family, looks: Mapping[Run, Look]) -> tuple[Gallery, ...]:
    """One grid for each set of test images; usually there is just one."""
    groups: list[list[tuple[Run, Examples]]] = []
    for run in family.tips():
        if run.examples is None:
            continue
        home = next((group for group in groups if _same_images(group[0][1], run.examples)), None)
        if home is None:
            groups.append([(run, run.examples)])
        else:
            home.append((run, run.examples))
    return tuple(_gallery(group, looks) for group in groups)


def _same_images(one: Examples, other: Examples) -> bool:
    k = min(len(one.y), len(other.y))
    return np.array_equal(one.x[:k], other.x[:k]) and np.array_equal(one.y[:k], other.y[:k])


def _gallery(group: Sequence[tuple[Run, Examples]], looks: Mapping[Run, Look]) -> Gallery:
    first_run, first = group[0]
    factor = amplification([examples for _, examples in group])
    rows = tuple(
        GalleryRow(
            number=i,
            truth=first_run.classes[first.y[i]],
            clean=image_uri(first.x[i]),
            shots=tuple(_shot(run, examples, i, factor) for run, examples in group),
        )
        for i in range(min(len(examples.y) for _, examples in group))
    )
    columns = tuple((looks[run], _attack_words(examples)) for run, examples in group)
    return Gallery(columns, rows, factor, pixelated=max(first.x.shape[2:]) <= LARGEST_PIXELATED)


def _attack_words(examples: Examples) -> str:
    eps = f"eps {eps_from_text(examples.eps)}" if examples.eps else ""
    return ", ".join(part for part in (attack_label(examples.attack), eps) if part)


def _shot(run: Run, examples: Examples, i: int, factor: int) -> Shot:
    def prediction(label: int) -> Answer:
        return Answer(run.classes[label], right=bool(label == examples.y[i]))

    return Shot(
        attacked=image_uri(examples.x_adv[i]),
        change=change_uri(examples.x[i], examples.x_adv[i], factor),
        before=prediction(int(examples.clean_prediction[i])),
        after=prediction(int(examples.adversarial_prediction[i])),
    )
