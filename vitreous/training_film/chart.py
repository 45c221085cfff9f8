"""A curve that grows with the film: drawn once, as past and as future, and joined at a cursor in each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from vitreous.render.text import load_font
from vitreous.render.theme import HAIRLINE, INK, MUTED, PAPER

SUPERSAMPLING = 3
FUTURE = 0.16
"""How much of a curve's color is left where the cursor hasn't been yet."""


@dataclass(frozen=True)
class Curve:
    """A curve over epochs, both float (points,) and finite, its color, and whether it is drawn boldly."""

    label: str
    epochs: np.ndarray
    values: np.ndarray
    color: str
    is_main: bool = True

    def newest(self, epoch: float) -> float | None:
        """Return the newest value at an epoch; None before the first one."""
        index = int(np.searchsorted(self.epochs, epoch + 1e-9)) - 1
        return float(self.values[index]) if index >= 0 else None

    def point(self, epoch: float) -> tuple[float, float]:
        """Return the (epoch, value) on the line where the cursor is, or the last one before it."""
        return min(epoch, float(self.epochs[-1])), float(np.interp(epoch, self.epochs, self.values))


@dataclass(frozen=True)
class ChartSpec:
    """What a chart shows.

    Attributes:
        title: of the axis.
        curves: the pale ones first; there is at least one.
        text: how a value is written.
        limits: the lowest and highest values that the axis may show.
        end: the last epoch.
        ticks: epochs that are marked on the axis.
    """

    title: str
    curves: Sequence[Curve]
    text: str
    limits: tuple[float, float]
    end: float
    ticks: Sequence[float] = ()


class FilmChart:
    """A chart of one or two curves in a box of the film's frame."""

    def __init__(self, spec: ChartSpec, size_hw: tuple[int, int], unit: float) -> None:
        """Draw what doesn't change.

        Args:
            spec: what is shown.
            size_hw: of the chart in pixels.
            unit: pixels of the frame for each pixel of a frame 1080 high.
        """
        self.spec, self.unit, (self.height, self.width) = spec, unit, size_hw
        self.top, self.bottom = self._px(56), self.height - self._px(34)
        values = np.concatenate([curve.values for curve in spec.curves])
        low, high = np.percentile(values, [0.5, 99.5]) if values.size > 200 else (values.min(), values.max())
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
        self.low, self.high = max(spec.limits[0], low - margin), min(spec.limits[1], high + margin)
        labels = [load_font(self._px(17)).getlength(f"{value:.4g}") for value in _ticks(self.low, self.high, 4)]
        self.left, self.right = round(max(labels, default=0)) + self._px(16), self.width - self._px(12)
        self.past, self.future = (self._draw(pale) for pale in (1.0, FUTURE))

    def draw(self, epoch: float) -> Image.Image:
        """Draw the chart with its cursor at an epoch."""
        cursor = round(self._x(epoch))
        image = self.future.copy()
        image.paste(self.past.crop((0, 0, cursor, self.height)), (0, 0))
        pen = ImageDraw.Draw(image)
        pen.line([(cursor, self.top), (cursor, self.bottom)], INK, max(1, self._px(2)))
        left = self.width
        for curve in reversed(self.spec.curves):
            if (value := curve.newest(epoch)) is None:
                continue
            x, y = curve.point(epoch)
            _paste_dot(image, (self._x(x), self._y(y)), self._px(8 if curve.is_main else 6), curve.color)
            text = self.spec.text.format(value)
            font = load_font(self._px(26 if curve.is_main else 20), bold=curve.is_main)
            baseline = self._px(32)
            pen.text((left, baseline), text, curve.color, font, "rs")
            left -= font.getlength(text) + self._px(10)
            name = load_font(self._px(18))
            pen.text((left, baseline), curve.label, MUTED, name, "rs")
            left -= name.getlength(curve.label) + self._px(30)
        return image

    def _px(self, pixels: float) -> int:
        return round(pixels * self.unit)

    def _x(self, epoch: float) -> float:
        return self.left + (self.right - self.left) * epoch / (self.spec.end or 1.0)

    def _y(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    def _draw(self, strength: float) -> Image.Image:
        """Draw axis and curves, the curves with this much of their color."""
        image = Image.new("RGB", (self.width, self.height), PAPER)
        pen, font = ImageDraw.Draw(image), load_font(self._px(17))
        pen.text((0, self._px(32)), self.spec.title, INK, load_font(self._px(24), bold=True), "ls")
        for value in _ticks(self.low, self.high, 4):
            y = round(self._y(value))
            pen.line([(self.left, y), (self.right, y)], HAIRLINE, 1)
            pen.text((self.left - self._px(12), y), f"{value:.4g}", MUTED, font, "rm")
        pen.line([(self.left, self.bottom), (self.right, self.bottom)], MUTED, 1)
        for epoch in self.spec.ticks:
            x = round(self._x(epoch))
            pen.line([(x, self.bottom), (x, self.bottom + self._px(5))], MUTED, 1)
        for epoch in _ticks(0.0, self.spec.end, 8):
            anchor = "ms" if epoch else "ls"
            text = f"{epoch:g}" if epoch else "epoch 0"
            pen.text((self._x(epoch), self.height - self._px(4)), text, MUTED, font, anchor)
        for curve in self.spec.curves:
            self._add_curve(image, curve, strength)
        return image

    def _add_curve(self, image: Image.Image, curve: Curve, strength: float) -> None:
        """Draw a curve with smooth edges."""
        mask = Image.new("L", (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING))
        points = [
            (SUPERSAMPLING * self._x(epoch), SUPERSAMPLING * self._y(value))
            for epoch, value in zip(curve.epochs, curve.values, strict=True)
        ]
        pen, width = ImageDraw.Draw(mask), SUPERSAMPLING * self.unit * (3.2 if curve.is_main else 2.4)
        for line in pairwise(points):
            pen.line(line, 255, max(1, round(width)))
        for x, y in points:
            radius = width * (1.4 if curve.is_main and len(points) <= 40 else 0.5)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
        opacity = strength * (1.0 if curve.is_main else 0.55)
        small = mask.resize(image.size, Image.Resampling.BOX).point(lambda level: round(level * opacity))
        image.paste(Image.new("RGB", image.size, curve.color), (0, 0), small)


def _paste_dot(image: Image.Image, center_xy: tuple[float, float], radius: int, color: str) -> None:
    """Draw a dot with a rim of paper and smooth edges."""
    side = 2 * radius + 3
    large = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    left, top = (round(center) - side // 2 for center in center_xy)
    for extent, ink in ((radius + 1, PAPER), (radius - 1, color)):
        middle, reach = side * SUPERSAMPLING / 2, extent * SUPERSAMPLING
        large.paste(0, (0, 0, *large.size))
        ImageDraw.Draw(large).ellipse((middle - reach, middle - reach, middle + reach, middle + reach), 255)
        image.paste(ImageColor.getrgb(ink), (left, top), large.resize((side, side), Image.Resampling.BOX))


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most about so many round numbers in a range.

    >>> _ticks(0.0, 8.0, 8), _ticks(12.5, 99.0, 4)
    ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [25.0, 50.0, 75.0])
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / most
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * (1 - 1e-9))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(np.round(i * step, 10)) for i in range(first, last + 1)]
