"""The page itself: everything that was read, laid out by templates/page.html.j2 with every text escaped."""

import base64
import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harp import __version__
from harp.report import chart
from harp.report.accuracies import accuracy_charts
from harp.report.chart import Chart
from harp.report.classes import Matrix, calibration_errors, class_charts, matrices
from harp.report.corruptions import corruption_charts, corruption_means
from harp.report.epochs import epoch_charts
from harp.report.family import Family, Look, experiments, looks
from harp.report.gallery import Gallery, galleries
from harp.report.layers import LayerBars, layer_bars, layer_charts
from harp.report.reading import Run
from harp.report.remaking import commands
from harp.report.results import Breakdown, Table, breakdown, results_table
from harp.report.wording import MISSING, count, duration, method_name, plural, share

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Making:
    """How one run was made."""

    look: Look
    stage: str
    method: str
    path: str
    took: str
    environment: Mapping[str, str]
    commands: str
    recipe: str


@dataclass(frozen=True)
class Section:
    """Everything about one data set and one network."""

    title: str
    anchor: str
    sentence: str
    key: tuple[Look, ...]  # a legend, only where lines are too many to carry their names
    table: Table
    layers: LayerBars | None
    layer_charts: tuple[Chart, ...]
    epochs: tuple[Chart, ...]
    accuracies: tuple[Chart, ...]
    classes: tuple[Chart, ...]
    matrices: tuple[Matrix, ...]
    calibration_errors: tuple[tuple[Look, str], ...]
    corruptions: tuple[Chart, ...]
    corruption_means: tuple[tuple[Look, str], ...]
    galleries: tuple[Gallery, ...]
    breakdown: Breakdown
    makings: tuple[Making, ...]


def render_page(family: Family, date: datetime.date) -> str:
    sections = tuple(_section(each, f"experiment-{i}") for i, each in enumerate(experiments(family), start=1))
    title = sections[0].title if len(sections) == 1 else "Pruned networks under attack"
    return render("page.html.j2", title=title, sections=sections, facts=facts_of(family.given, date))


def render(template: str, **content: Any) -> str:
    """A page of ours: the template filled with content, which is escaped, in the style and with the script of all."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template(template).render(
        **content,
        chart=chart,
        # Our own files, so they are markup. The hash lets this script run and no other, should escaping ever fail.
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def facts_of(runs: Sequence[Run], date: datetime.date) -> tuple[tuple[str, str], ...]:
    return (
        ("Date", f"{date.day} {date:%B %Y}"),
        ("Report by", f"harp {__version__}"),
        ("Runs made by", _joined(_software(run) for run in runs)),
        ("Hardware", _joined(_hardware(run) for run in runs)),
    )


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text)) or MISSING


def _software(run: Run) -> str:
    parts = [
        f"{name} {run.environment[key]}"
        for key, name in (("harp", "harp"), ("torch", "PyTorch"))
        if key in run.environment
    ]
    return ", ".join(parts)


def _hardware(run: Run) -> str:
    known = run.environment
    cores = f"{known['cores']} cores" if "cores" in known else ""
    device = f"on {known['device']}" if "device" in known else ""
    return ", ".join(part for part in (known.get("cpu", ""), cores, device) if part)


def _section(family: Family, anchor: str) -> Section:
    names = looks(family)
    first, tips = family.given[0], family.tips()
    return Section(
        title=f"{first.model} on {first.data}",
        anchor=anchor,
        sentence=_sentence(family),
        key=tuple(names[run] for run in tips) if len(tips) > chart.MOST_LABELS else (),
        table=results_table(family, names),
        layers=layer_bars(family, names),
        layer_charts=layer_charts(family, names),
        epochs=epoch_charts(family, names),
        accuracies=accuracy_charts(family, names),
        classes=class_charts(family, names),
        matrices=matrices(family, names),
        calibration_errors=calibration_errors(family, names),
        corruptions=corruption_charts(family, names),
        corruption_means=corruption_means(family, names),
        galleries=galleries(family, names),
        breakdown=breakdown(family, names),
        makings=tuple(_making(run, look, family) for run, look in names.items()),
    )


def _sentence(family: Family) -> str:
    """What the section shows, said once in words."""
    tips = family.tips()
    pruned = [run for run in tips if run.method is not None]
    dense = len(tips) - len(pruned)
    subjects = []
    if dense:
        subjects.append(plural(dense, "dense network", "dense networks"))
    if pruned:
        keeps = " or ".join(dict.fromkeys(share(run.keep) for run in pruned))
        totals = " or ".join(dict.fromkeys(count(run.total) for run in pruned))
        subjects.append(f"{plural(len(pruned), 'network', 'networks')} pruned to {keeps} of {totals} weights")
    return f"{' and '.join(subjects).capitalize()}: what was kept, and the accuracy that is left on clean images and under attack."


def _making(run: Run, look: Look, family: Family) -> Making:
    return Making(
        look=look,
        stage=run.stage,
        method=method_name(run.method),
        path=str(run.path),
        took=duration(run.elapsed_s),
        environment=run.environment,
        commands="\n".join(commands(run, family.known.get(run.parent_home) if run.parent_home else None)),
        recipe=json.dumps(run.recipe, indent=2, ensure_ascii=False) if run.recipe else "",
    )
