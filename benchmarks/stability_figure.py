"""Small multiples of the prune stage: every layer's keep fraction and the density, on one logarithmic scale, as SVG."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

LOW, HIGH = 1e-5, 1.0
WIDTH, HEIGHT, GAP, LEFT, TOP = 190, 150, 26, 74, 60


def draw(panels: Sequence[tuple[str, float, list[list[dict]]]], out: Path) -> None:
    """``panels`` are (network, keep, metrics of each seed's epochs); rows are networks and columns keeps."""
    rows = list(dict.fromkeys(network for network, _, _ in panels))
    columns = sorted({keep for _, keep, _ in panels}, reverse=True)
    width = LEFT + len(columns) * (WIDTH + GAP) + 10
    height = TOP + len(rows) * (HEIGHT + GAP + 18) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11">',
        "<title>Keep fraction of every layer, and density, over the prune stage of HARP</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<text x="16" y="22" font-size="15" font-weight="600" fill="#1a1a1a">Keep fractions over the prune stage of HARP</text>',
        '<text x="16" y="40" fill="#555">thin: each layer, from the first (blue) to the last (orange); black: all weights together; '
        "dotted: the budget; both seeds</text>",
    ]
    for network, keep, runs in panels:
        x = LEFT + columns.index(keep) * (WIDTH + GAP)
        y = TOP + 18 + rows.index(network) * (HEIGHT + GAP + 18)
        parts += _panel(
            x, y, f"{escape(network)}, {keep:.1%}".replace(".0%", "%"), keep, runs, first=keep == columns[0]
        )
    parts.append("</svg>")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _panel(x: float, y: float, title: str, keep: float, runs: list[list[dict]], *, first: bool) -> list[str]:
    def at(epoch: float, epochs: int) -> float:
        return x + WIDTH * epoch / epochs

    def up(value: float) -> float:
        share = (math.log10(max(value, LOW)) - math.log10(LOW)) / (math.log10(HIGH) - math.log10(LOW))
        return y + HEIGHT * (1 - share)

    parts = [f'<text x="{x}" y="{y - 7}" font-weight="600" fill="#1a1a1a">{title}</text>']
    for power in range(-5, 1):
        line = up(10.0**power)
        parts.append(f'<line x1="{x}" x2="{x + WIDTH}" y1="{line:.1f}" y2="{line:.1f}" stroke="#e4e4e4"/>')
        if first:
            label = f"{100 * 10.0**power:g} %"
            parts.append(f'<text x="{x - 6}" y="{line + 4:.1f}" text-anchor="end" fill="#555">{label}</text>')
    parts.append(
        f'<line x1="{x}" x2="{x + WIDTH}" y1="{up(keep):.1f}" y2="{up(keep):.1f}" stroke="#1a1a1a" stroke-dasharray="2 3"/>'
    )
    for epochs in runs:
        count = len(epochs)
        names = list(epochs[0]["layers"])
        for i, name in enumerate(names):
            values = [0.1, *(epoch["layers"][name] for epoch in epochs)]
            points = " ".join(f"{at(e, count):.1f},{up(v):.1f}" for e, v in enumerate(values))
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{_colour(i / max(len(names) - 1, 1))}" stroke-width="1.2" '
                f'opacity="0.75"><title>{escape(name)}: {values[-1]:.4f}</title></polyline>'
            )
        density = [0.1, *(epoch["density"] for epoch in epochs)]
        points = " ".join(f"{at(e, count):.1f},{up(v):.1f}" for e, v in enumerate(density))
        parts.append(f'<polyline points="{points}" fill="none" stroke="#1a1a1a" stroke-width="2.4"/>')
    count = len(runs[0])
    for epoch in (0, count // 2, count):
        parts.append(
            f'<text x="{at(epoch, count):.1f}" y="{y + HEIGHT + 14}" text-anchor="middle" fill="#555">{epoch}</text>'
        )
    parts.append(f'<text x="{x + WIDTH}" y="{y + HEIGHT + 27}" text-anchor="end" fill="#555">epochs</text>')
    return parts


def _colour(share: float) -> str:
    """From blue to orange, two hues that colour-blind readers tell apart."""
    start, end = (38, 98, 168), (217, 107, 24)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(start, end, strict=True))
