"""Where networks fail: accuracy class by class, which classes are taken for which, and how sure they are of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harp.cards import Evaluation
from harp.report.chart import Chart, Mark, Scale, Series, Tick, accuracy_scale, end_labels
from harp.report.family import Family, Look
from harp.report.reading import Run
from harp.report.results import Test, best_evaluation, tests_of
from harp.report.wording import count, interval, percent, whole_percent

CLEAN = Test("clean", None, None)
MOST_CLASSES = 20
"""More than so many make no picture of a matrix."""
WHOLE = Scale(0.0, 1.0)


@dataclass(frozen=True)
class Box:
    """One cell of a matrix: how dark it is, and what a reader sees when pointing at it."""

    share: float
    reading: str
    diagonal: bool


@dataclass(frozen=True)
class Matrix:
    """Rows are the true classes, columns the answers."""

    look: Look
    title: str
    classes: tuple[str, ...]
    rows: tuple[tuple[Box, ...], ...]


def class_charts(family: Family, looks: Mapping[Run, Look]) -> tuple[Chart, ...]:
    """Classes from the worst to the best, clean and under the strongest attack; and accuracy over confidence."""
    runs = family.tips()
    charts = [_by_class(test, runs, looks) for test in _tests(runs)]
    return tuple(chart for chart in (*charts, _calibration(runs, looks)) if chart is not None)


def matrices(family: Family, looks: Mapping[Run, Look]) -> tuple[Matrix, ...]:
    """One for each network and test, where the classes are few enough to be told apart."""
    runs = [run for run in family.tips() if len(run.classes) <= MOST_CLASSES]
    pairs = [(run, test, best_evaluation(run, test)) for run in runs for test in _tests(runs)]
    return tuple(
        _matrix(run, test, each, looks[run]) for run, test, each in pairs if each is not None and each.confusion
    )


def _tests(runs: Sequence[Run]) -> list[Test]:
    """Clean images, and the strongest attack of those that say what was answered."""
    known = [test for test in tests_of(runs) if any(_confused(run, test) for run in runs)]
    return list(dict.fromkeys([*(test for test in known if test == CLEAN), *known[-1:]]))


def _confused(run: Run, test: Test) -> Evaluation | None:
    found = best_evaluation(run, test)
    return found if found is not None and found.confusion else None


def _by_class(test: Test, runs: Sequence[Run], looks: Mapping[Run, Look]) -> Chart | None:
    found = {run: each for run in runs if (each := _confused(run, test)) is not None}
    sorted_classes = {run: _from_worst(each) for run, each in found.items()}
    if not any(len(rows) > 1 for rows in sorted_classes.values()):
        return None
    scale = accuracy_scale([right / images for rows in sorted_classes.values() for _, right, images in rows])
    series = []
    for run, rows in sorted_classes.items():
        marks = tuple(
            Mark(
                WHOLE.x(place / max(len(rows) - 1, 1)),
                scale.y(right / images),
                _class_reading(run, number, right, images),
            )
            for place, (number, right, images) in enumerate(rows)
        )
        series.append(
            Series(
                looks[run].label, looks[run].tone, looks[run].dash, marks, joined=True, dots=len(rows) <= MOST_CLASSES
            )
        )
    title = f"Accuracy by class: {' '.join([test.name, test.threat]).strip()}"
    worst = "; ".join(f"{each.label}, worst {each.marks[0].reading}" for each in series)
    return Chart(
        title=title,
        description=f"{title}. {worst}.",
        series=tuple(series),
        y_ticks=tuple(Tick(scale.y(value), whole_percent(value)) for value in scale.ticks()),
        x_ticks=(Tick(WHOLE.x(0.0), "worst"), Tick(WHOLE.x(1.0), "best")),
        x_title="classes, each network's own order",
        labels=end_labels(series),
    )


def _from_worst(each: Evaluation) -> list[tuple[int, int, int]]:
    return sorted(
        ((number, *pair) for number, pair in each.by_class.items()), key=lambda row: (row[1] / row[2], row[0])
    )


def _class_reading(run: Run, number: int, right: int, images: int) -> str:
    return f"{_name(run, number)}: {percent(right / images)} of {count(images)}"


def _name(run: Run, number: int) -> str:
    return run.classes[number] if number < len(run.classes) else f"class {number}"


def _calibration(runs: Sequence[Run], looks: Mapping[Run, Look]) -> Chart | None:
    """Accuracy over confidence on clean images; on the diagonal a network is as sure as it is right."""
    found = {run: each for run in runs if (each := best_evaluation(run, CLEAN)) is not None and each.calibration}
    if not found:
        return None
    series = [
        Series(
            looks[run].label,
            looks[run].tone,
            looks[run].dash,
            tuple(
                Mark(WHOLE.x(sure), WHOLE.y(right / images), _bin_reading(looks[run].label, images, right, sure))
                for images, right, sure in each.calibration
                if images
            ),
            joined=True,
            dots=True,
        )
        for run, each in found.items()
    ]
    diagonal = tuple(Mark(WHOLE.x(at), WHOLE.y(at), f"as sure as right: {whole_percent(at)}") for at in (0.0, 1.0))
    errors = "; ".join(
        f"{looks[run].label}: calibration error {percent(each.calibration_error)}" for run, each in found.items()
    )
    return Chart(
        title="Confidence and accuracy, clean images",
        description=f"Accuracy over confidence in 15 bins. {errors}.",
        series=(Series("as sure as right", "dense", "2 3", diagonal, joined=True, dots=False), *series),
        y_ticks=tuple(Tick(WHOLE.y(value), whole_percent(value)) for value in WHOLE.ticks()),
        x_ticks=tuple(Tick(WHOLE.x(value), whole_percent(value)) for value in WHOLE.ticks(5)),
        x_title="confidence; below the dotted line a network is too sure",
        labels=end_labels(series),
    )


def _bin_reading(label: str, images: int, right: int, sure: float) -> str:
    return f"{label}: {percent(sure)} sure, {percent(right / images)} right, {count(images)} images"


def calibration_errors(family: Family, looks: Mapping[Run, Look]) -> tuple[tuple[Look, str], ...]:
    """The expected calibration error of each network, in words."""
    found = [(run, best_evaluation(run, CLEAN)) for run in family.tips()]
    return tuple(
        (looks[run], percent(each.calibration_error)) for run, each in found if each is not None and each.calibration
    )


def _matrix(run: Run, test: Test, each: Evaluation, look: Look) -> Matrix:
    counts = {(label, answer): images for label, answer, images in each.confusion}
    totals = {label: images for label, (_, images) in each.by_class.items()}
    numbers = range(len(run.classes))
    rows = tuple(
        tuple(_box(run, label, answer, counts.get((label, answer), 0), totals.get(label, 0)) for answer in numbers)
        for label in numbers
    )
    title = f"{' '.join([test.name, test.threat]).strip()}, {interval(each.low, each.high)}{chr(0x202F)}%"
    return Matrix(look, title, tuple(_name(run, number) for number in numbers), rows)


def _box(run: Run, label: int, answer: int, images: int, total: int) -> Box:
    share = images / total if total else 0.0
    reading = f"{_name(run, label)} taken for {_name(run, answer)}: {count(images)} of {count(total)}"
    return Box(share, reading, label == answer)
