"""Every network of the comparison as a dot, by method, for each keep and test, as SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean

from compare_tables import BASELINE, TESTS, Record, by_seed, keeps, of

from harp.report.chart import Scale, close_scale
from harp.report.wording import method_name

WIDTH, ROW, LEFT, TOP, GAP, HEAD, FOOT = 290, 20, 128, 60, 44, 34, 22
OURS, THEIRS, INK, QUIET = "#2662a8", "#7a4a12", "#1a1a1a", "#555"


def draw(records: Sequence[Record], out: Path) -> None:
    """Rows of panels are keeps, columns are tests with one scale each; the methods stand in the order of the records."""
    methods = list(dict.fromkeys(r["method"] for r in records if r["method"] != "dense"))
    high = HEAD + ROW * len(methods) + FOOT
    width, height = LEFT + len(TESTS) * (WIDTH + GAP), TOP + len(keeps(records)) * high
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11">',
        "<title>Accuracy of every method on the anchor, clean and under AutoAttack</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="22" font-size="15" font-weight="600" fill="{INK}">Every method on the anchor</text>',
        f'<text x="16" y="40" fill="{QUIET}">a dot per network, a bar at the mean over seeds; dashed: mean of '
        f"{method_name(BASELINE)}; dotted: the dense parents; accuracy in %</text>",
    ]
    for column, (test, title) in enumerate(TESTS.items()):
        scale = close_scale([r[test] for r in records if r[test] is not None])
        for row, keep in enumerate(keeps(records)):
            left, top = LEFT + column * (WIDTH + GAP), TOP + row * high + HEAD
            found = {method: by_seed(of(records, method, keep), test) for method in methods}
            dense = by_seed(of(records, "dense", 1.0), test)
            parts += _panel(f"{title}, {100 * keep:g} % kept", left, top, scale, found, dense, named=column == 0)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _panel(
    title: str,
    left: float,
    top: float,
    scale: Scale,
    found: Mapping[str, Mapping[int, float]],
    dense: Mapping[int, float],
    *,
    named: bool,
) -> list[str]:
    """``found`` are the accuracies of each method by seed; names stand left of the first column only."""

    def across(value: float) -> float:
        return left + WIDTH * scale.part(value)

    def upright(value: float, style: str) -> str:
        x = f"{across(value):.1f}"
        return f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" {style}/>'

    bottom = top + ROW * len(found)
    parts = [f'<text x="{left}" y="{top - 12}" font-weight="600" fill="{INK}">{title}</text>']
    for value in scale.ticks(8):
        parts.append(upright(value, 'stroke="#e4e4e4"'))
        parts.append(
            f'<text x="{across(value):.1f}" y="{bottom + 15}" text-anchor="middle" fill="{QUIET}">{100 * value:.0f}</text>'
        )
    for levels, dash in ((found.get(BASELINE, {}), "5 3"), (dense, "1 3")):
        if levels:
            parts.append(upright(mean(levels.values()), f'stroke="{QUIET}" stroke-dasharray="{dash}"'))
    for place, (method, values) in enumerate(found.items()):
        y, colour = top + ROW * (place + 0.5), OURS if method.startswith("harp") else THEIRS
        if named:
            parts.append(
                f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" fill="{colour}">{escape(method_name(method))}</text>'
            )
        for seed, value in values.items():
            what = f"<title>{escape(method_name(method))}, seed {seed}: {100 * value:.1f} %</title>"
            parts.append(
                f'<circle cx="{across(value):.1f}" cy="{y}" r="3.4" fill="{colour}" fill-opacity="0.55">{what}</circle>'
            )
        if values:
            x = f"{across(mean(values.values())):.1f}"
            parts.append(f'<line x1="{x}" x2="{x}" y1="{y - 7}" y2="{y + 7}" stroke="{colour}" stroke-width="2.4"/>')
    return parts
