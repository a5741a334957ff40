"""Two panels, the step of pruning and of finetuning as a multiple of the dense one, as SVG."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 190, 58, 70, 70
COLOURS = {"prune": "#2662a8", "finetune": "#d96b18"}


@dataclass(frozen=True)
class Line:
    """A panel: what grows, and at each of its values the record with the ratios."""

    title: str
    points: list[tuple[float, dict[str, Any]]]


def draw(panels: list[Line], attack_steps: int, out: Path) -> None:
    ratios = [record[name] for panel in panels for _, record in panel.points for name in COLOURS]
    floor, ceiling = math.floor(min(*ratios, 0.95) * 20) / 20, math.ceil(max(*ratios, 1.05) * 20) / 20
    width, height = LEFT + len(panels) * (WIDTH + GAP), TOP + HEIGHT + 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11">',
        "<title>The step with masks as a multiple of harp's dense step</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="22" font-size="15" font-weight="600" fill="#1a1a1a">What masks cost: time of a PGD-{attack_steps} step over the dense one</text>',
    ]
    for place, (name, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{16 + 80 * place}" y="42" font-weight="600" fill="{colour}">{name}</text>')
    for place, panel in enumerate(panels):
        parts += _panel(panel, LEFT + place * (WIDTH + GAP), floor, ceiling)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _panel(panel: Line, left: float, floor: float, ceiling: float) -> list[str]:
    smallest, largest = panel.points[0][0], panel.points[-1][0]

    def across(value: float) -> float:
        return left + WIDTH * math.log(value / smallest) / max(math.log(largest / smallest), 1e-9)

    def up(ratio: float) -> float:
        return TOP + HEIGHT * (1 - (ratio - floor) / (ceiling - floor))

    parts = []
    step = 0.05 if ceiling < 1.6 else 0.5
    for k in range(math.ceil(floor / step), math.floor(ceiling / step + 1e-9) + 1):
        y = up(k * step)
        parts.append(
            f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{"#999" if k * step == 1 else "#e4e4e4"}"/>'
        )
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{k * step:.2f}</text>')
    for value, _ in panel.points:
        label = f"{value / 1e6:.3g} M" if value >= 1e5 else f"{value:g}"
        parts.append(
            f'<text x="{across(value):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle" fill="#555">{label}</text>'
        )
    for name, colour in COLOURS.items():
        points = " ".join(f"{across(value):.1f},{up(record[name]):.1f}" for value, record in panel.points)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for value, record in panel.points:
            what = f"<title>{name}: {record[name]:.3f}</title>"
            parts.append(
                f'<circle cx="{across(value):.1f}" cy="{up(record[name]):.1f}" r="3.5" fill="{colour}">{what}</circle>'
            )
    parts.append(f'<text x="{left + WIDTH}" y="{TOP + HEIGHT + 34}" text-anchor="end" fill="#555">{panel.title}</text>')
    return parts
