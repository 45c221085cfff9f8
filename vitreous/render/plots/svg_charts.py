"""Small charts as SVG for a page: dots of one layer's heads, a table of numbers by color, lines over the layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from vitreous.render.color import color_table
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, PAPER, WARM, WRONG

LINE_COLORS = (COOL, WARM, MUTED)
DOTS_SIDE, DOTS_MARGIN = 160, 14
CELL_WIDTH, CELL_HEIGHT, NAMES_WIDTH, HEADER = 46, 30, 62, 24
LINES_WIDTH, LINES_HEIGHT = 320, 204
LEFT, RIGHT_EDGE, TOP, BOTTOM = 40, 310, 26, 164


@dataclass(frozen=True)
class Line:
    """One line over the layers."""

    name: str
    values: np.ndarray


def dots(title: str, across: np.ndarray, up: np.ndarray, marked: Sequence[int], limit: float) -> str:
    """One dot a head, numbered: `across` from 0 to `limit`, `up` from 0 to 1; the `marked` ones stand out.

    A dashed line is drawn at `limit` / 1.15, where even attention would be.
    """
    room, ceiling = DOTS_SIDE - 2 * DOTS_MARGIN, DOTS_MARGIN + 4
    parts = [
        f'<text x="{DOTS_MARGIN}" y="11" style="fill:{INK};font-weight:600">{escape(title)}</text>',
        f'<rect x="{DOTS_MARGIN}" y="{ceiling}" width="{room}" height="{room}" fill="none" stroke="{HAIRLINE}"/>',
    ]
    even = DOTS_MARGIN + room / 1.15
    parts.append(f'<path d="M{even:.1f} {ceiling}v{room}" stroke="{HAIRLINE}" stroke-dasharray="3 3" fill="none"/>')
    for head in sorted(range(len(up)), key=lambda head: head in marked):
        x, y = float(across[head]), float(up[head])
        left = DOTS_MARGIN + room * min(1.0, x / limit)
        top = ceiling + room * (1 - min(1.0, max(0.0, y)))
        color = WRONG if head in marked else COOL
        parts.append(
            f'<circle cx="{left:.1f}" cy="{top:.1f}" r="8" fill="{color}" fill-opacity="0.85"/>'
            f'<text x="{left:.1f}" y="{top + 3.5:.1f}" text-anchor="middle" style="fill:{PAPER};font-size:10px">'
            f"{head}<title>head {head}: distance {x:.2f} patches, entropy {y:.0%}</title></text>"
        )
    return _svg(DOTS_SIDE, DOTS_SIDE + 8, parts, title)


def table(values: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], form: str, title: str) -> str:
    """Numbers (rows, columns) as cells, the darker the smaller, from 0 to the greatest; written with `form`.

    Drawn at its own size, for a panel that scrolls.
    """
    top = float(max(np.nanmax(values), 1e-12))
    colors = color_table("viridis")
    parts = [
        f'<text x="{NAMES_WIDTH + (i + 0.5) * CELL_WIDTH}" y="15" text-anchor="middle">{escape(name)}</text>'
        for i, name in enumerate(column_names)
    ]
    for row, name in enumerate(row_names):
        y = HEADER + row * CELL_HEIGHT
        parts.append(f'<text x="0" y="{y + 19}">{escape(name)}</text>')
        for column, value in enumerate(values[row]):
            level = int(255 * np.sqrt(np.clip(value / top, 0, 1)))
            red, green, blue = (int(part) for part in colors[level])
            ink = INK if level > 150 else PAPER
            x = NAMES_WIDTH + column * CELL_WIDTH
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL_WIDTH - 2}" height="{CELL_HEIGHT - 2}" rx="3" '
                f'fill="rgb({red},{green},{blue})"/><text x="{x + CELL_WIDTH / 2 - 1}" y="{y + 18}" '
                f'text-anchor="middle" style="fill:{ink};font-size:11px">{form.format(value)}</text>'
            )
    width, height = NAMES_WIDTH + CELL_WIDTH * len(column_names), HEADER + CELL_HEIGHT * len(row_names)
    return _svg(width, height, parts, title, fixed=True)


def lines(title: str, several: Sequence[Line], low: float, high: float, *, first: int = 0) -> str:
    """Lines over the layers, the first point at layer `first`, between `low` and `high`; named at the foot."""
    count = max(len(line.values) for line in several)
    span = (high - low) or 1.0
    parts = [f'<text x="{LEFT}" y="14" style="fill:{INK};font-weight:600">{escape(title)}</text>']
    for value in np.linspace(low, high, 3):
        y = BOTTOM - (BOTTOM - TOP) * (value - low) / span
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT_EDGE}" stroke="{HAIRLINE}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for place in sorted({0, count // 2, count - 1}):
        x = LEFT + (RIGHT_EDGE - LEFT) * place / max(1, count - 1)
        name = "in" if place + first < 0 else str(place + first)
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 17}" text-anchor="middle">{name}</text>')
    for color, line in zip(LINE_COLORS, several, strict=False):
        places = [
            (LEFT + (RIGHT_EDGE - LEFT) * i / max(1, count - 1), BOTTOM - (BOTTOM - TOP) * (value - low) / span)
            for i, value in enumerate(line.values)
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2" stroke-linejoin="round"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in places]
    parts += _names(several)
    return _svg(LINES_WIDTH, LINES_HEIGHT, parts, title)


def _names(several: Sequence[Line]) -> list[str]:
    """The lines' names in their colors, where there is more than one."""
    if len(several) == 1:
        return []
    step = (RIGHT_EDGE - LEFT) / len(several)
    return [
        f'<text x="{LEFT + i * step:.1f}" y="{LINES_HEIGHT - 5}" style="fill:{color}">{escape(line.name)}</text>'
        for i, (color, line) in enumerate(zip(LINE_COLORS, several, strict=False))
    ]


def _svg(width: float, height: float, parts: Sequence[str], title: str, *, fixed: bool = False) -> str:
    size = f'width="{width}" height="{height}"' if fixed else 'width="100%"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} role="img"'
    return f'{head} aria-label="{escape(title)}">{"".join(parts)}</svg>'
