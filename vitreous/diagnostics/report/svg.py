"""Small charts as SVG elements that take their colors from the page's style sheet, so that they follow light and dark.

matplotlib's SVG has its colors and fonts in every element, and takes a fifth of a second a chart; the report is also
written at each checkpoint of a training run, where these charts take a few milliseconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 34
"""Sizes in the chart's own units: a chart 360 pixels wide has text of 12 pixels."""
NUM_TICKS = 6
"""At most, about."""


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        low: the value at its start.
        high: the value at its end, above `low`.
        title: written beside it.
        ticks: the values that are labeled.
    """

    low: float
    high: float
    title: str
    ticks: tuple[float, ...]

    def label(self, value: float) -> str:
        """Write the value of a tick with the digits that tell it from the next one.

        >>> round_axis([0.0, 0.25], "loss").label(0.1), round_axis([0.0, 80.0], "accuracy").label(60.0)
        ('0.10', '60')
        """
        step = abs(self.ticks[1] - self.ticks[0]) if len(self.ticks) > 1 else abs(value) or 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{value:,.{decimals}f}"


def round_axis(values: Sequence[float], title: str, limits: tuple[float, float] = (-math.inf, math.inf)) -> Axis:
    """Make the axis that holds some finite values, with round numbers as ticks and a margin within limits.

    >>> round_axis([0.0, 8.0], "epoch", (0, math.inf)).ticks
    (0.0, 2.0, 4.0, 6.0, 8.0)
    """
    low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    low, high = max(limits[0], low - margin), min(limits[1], high + margin)
    if high <= low:  # all values are at a limit
        low, high = (low - margin, low) if low >= limits[1] else (low, low + margin)
    rough = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, title, tuple(round(step * number, 10) for number in range(first, last + 1)))


@dataclass
class SvgChart:
    """A chart that is being drawn: its axes, and the marks on them, in the order of drawing."""

    title: str
    description: str
    across: Axis
    up: Axis
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    names: tuple[str, ...] = ()
    """Of rows at 0.5, 1.5, ... from the bottom, written in place of the vertical axis' numbers."""
    _marks: list[str] = field(default_factory=list, init=False)

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        fraction = (value - self.across.low) / (self.across.high - self.across.low)
        return self.left + fraction * (self.width - self.left - RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        fraction = (value - self.up.low) / (self.up.high - self.up.low)
        return self.height - BOTTOM - fraction * (self.height - TOP - BOTTOM)

    def line(self, across: np.ndarray, up: np.ndarray, style: str, *, dots: bool = False) -> None:
        """Draw a line through points, (points) each; values that aren't finite leave a gap."""
        finite = np.isfinite(across) & np.isfinite(up)
        parts, is_open = [], False
        for known, first, second in zip(finite.tolist(), across.tolist(), up.tolist(), strict=True):
            if known:
                parts.append(f"{'L' if is_open else 'M'}{self._point(first, second)}")
            is_open = known
        if parts:
            self._marks.append(f'<path class="line {style}" d="{"".join(parts)}"/>')
        for first, second in zip(across[finite].tolist(), up[finite].tolist(), strict=True) if dots else ():
            self.dot(first, second, style)

    def dot(self, across: float, up: float, style: str, radius: float = 2.5) -> None:
        """Draw a dot at a point."""
        x, y = self._clip(across, up)
        self._marks.append(f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')

    def band(self, across: np.ndarray, low: np.ndarray, high: np.ndarray, style: str) -> None:
        """Fill the area between two lines, (points) each, all finite."""
        there = [self._point(*pair) for pair in zip(across.tolist(), high.tolist(), strict=True)]
        back = [self._point(*pair) for pair in zip(across[::-1].tolist(), low[::-1].tolist(), strict=True)]
        self._marks.append(f'<path class="band {style}" d="M{"L".join([*there, *back])}Z"/>')

    def bar(self, across: tuple[float, float], up: tuple[float, float], style: str) -> None:
        """Fill a rectangle, from the first to the second value on each axis."""
        (x0, y0), (x1, y1) = self._clip(across[0], up[0]), self._clip(across[1], up[1])
        rectangle = f'x="{min(x0, x1):.1f}" y="{min(y0, y1):.1f}" width="{abs(x1 - x0):.1f}"'
        self._marks.append(f'<rect class="bar {style}" {rectangle} height="{abs(y1 - y0):.1f}"/>')

    def whisker(self, low: float, high: float, up: float, style: str) -> None:
        """Draw an interval as a horizontal line."""
        self._marks.append(f'<path class="line {style}" d="M{self._point(low, up)}L{self._point(high, up)}"/>')

    def rule(self, across: float, style: str) -> None:
        """Draw a vertical line through the whole chart."""
        self._marks.append(
            f'<path class="line {style}" d="M{self._point(across, self.up.low)}L{self._point(across, self.up.high)}"/>'
        )

    def label(self, across: float, up: float, text: str) -> None:
        """Write a value to the left of a point and above it."""
        x, y = self._clip(across, up)
        self._marks.append(f'<text class="value" x="{x:.1f}" y="{max(y - 7, 11):.1f}">{escape(text)}</text>')

    def to_svg(self, key: str) -> str:
        """Return the chart as an SVG element; `key` makes the ids of its title and description unique in a page."""
        ids = f"{key}-title", f"{key}-text"
        head = (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-labelledby="{ids[0]} {ids[1]}">'
            f'<title id="{ids[0]}">{escape(self.title)}</title><desc id="{ids[1]}">{escape(self.description)}</desc>'
        )
        return "\n".join([head, *self._draw_axes(), *self._marks, "</svg>"])

    def _draw_axes(self) -> list[str]:
        right, floor = self.width - RIGHT, self.height - BOTTOM
        found = []
        for value in () if self.names else self.up.ticks:
            y = self.y(value)
            found.append(f'<path class="grid" d="M{self.left} {y:.1f}H{right}"/>')
            text = escape(self.up.label(value))
            found.append(f'<text class="tick end" x="{self.left - 6}" y="{y + 4:.1f}">{text}</text>')
        for row, name in enumerate(self.names):
            y = self.y(row + 0.5)
            found.append(f'<path class="grid" d="M{self.left} {y:.1f}H{right}"/>')
            found.append(f'<text class="name end" x="{self.left - 8}" y="{y + 4:.1f}">{escape(name)}</text>')
        found.append(f'<path class="axis" d="M{self.left} {floor}H{right}"/>')
        for value in self.across.ticks:
            text = escape(self.across.label(value))
            found.append(f'<text class="tick middle" x="{self.x(value):.1f}" y="{floor + 15}">{text}</text>')
        middle = (self.left + right) / 2
        found.append(f'<text class="tick middle" x="{middle:.1f}" y="{floor + 30}">{escape(self.across.title)}</text>')
        return found

    def _clip(self, across: float, up: float) -> tuple[float, float]:
        x = self.x(min(max(across, self.across.low), self.across.high))
        return x, self.y(min(max(up, self.up.low), self.up.high))

    def _point(self, across: float, up: float) -> str:
        x, y = self._clip(across, up)
        return f"{x:.1f} {y:.1f}"
