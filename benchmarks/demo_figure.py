"""Draw the figure of the README from the cards in results/demo: accuracies of the demo with their 95 % intervals, as SVG.

python benchmarks/demo_figure.py           # writes docs/demo.svg
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CARDS, OUT = ROOT / "results" / "demo", ROOT / "docs" / "demo.svg"
ORDER = ("dense", "harp", "hydra", "lwm")
TESTS = {"clean": "clean images", "autoattack": "under AutoAttack"}
WIDTH, ROW, LEFT, TOP, GAP, FOOT = 290, 26, 92, 66, 30, 26
OURS, THEIRS, INK, QUIET = "#2662a8", "#7a4a12", "#1a1a1a", "#555"
Card = Mapping[str, Any]


def read_cards(folder: Path) -> list[Card]:
    """The four networks of the demo, dense first."""
    return [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER]


def draw(cards: Sequence[Card]) -> str:
    """One panel per test on a scale from 0 to 100 %, one row per network: a dot with its interval."""
    width, bottom = LEFT + len(TESTS) * (WIDTH + GAP), TOP + ROW * len(cards)
    images = cards[0]["evaluations"][0]["images"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + FOOT}" font-family="system-ui, sans-serif" font-size="12">',
        "<title>Accuracy of the dense network and of three networks with 1 % of its weights</title>",
        f'<rect width="{width}" height="{bottom + FOOT}" fill="#fff"/>',
        f'<text x="16" y="24" fill="{QUIET}">Accuracy in % of {images} test images, with 95 % intervals; one seed; '
        f"make demo</text>",
    ]
    for row, card in enumerate(cards):
        y = TOP + ROW * (row + 0.5)
        name = escape(card["name"])
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end" fill="{_colour(card)}">{name}</text>')
    for column, (attack, title) in enumerate(TESTS.items()):
        parts += _panel(cards, attack, title, LEFT + column * (WIDTH + GAP), bottom)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(cards: Sequence[Card], attack: str, title: str, left: float, bottom: float) -> list[str]:
    parts = [f'<text x="{left}" y="{TOP - 10}" font-weight="600" fill="{INK}">{title}</text>']
    for percent in range(0, 101, 20):
        x = f"{left + WIDTH * percent / 100:.1f}"
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle" fill="{QUIET}">{percent}</text>')
    for row, card in enumerate(cards):
        found = next(e for e in card["evaluations"] if e["attack"] == attack)
        y, colour = TOP + ROW * (row + 0.5), _colour(card)
        low, at, high = (f"{left + WIDTH * found[part]:.1f}" for part in ("low", "accuracy", "high"))
        what = escape(
            f"{card['name']}: {100 * found['accuracy']:.1f} % ({100 * found['low']:.1f}–{100 * found['high']:.1f})"
        )
        parts.append(
            f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2.4" stroke-opacity="0.5"/>'
        )
        parts.append(f'<circle cx="{at}" cy="{y}" r="4.2" fill="{colour}"><title>{what}</title></circle>')
    return parts


def _colour(card: Card) -> str:
    return {None: INK, "harp": OURS}.get(card["method"], THEIRS)


if __name__ == "__main__":
    OUT.write_text(draw(read_cards(CARDS)), encoding="utf-8")
