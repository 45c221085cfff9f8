"""A thin strip under a video: the predicted classes over time as colored fractions, with their names."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from vitreous.errors import InputError
from vitreous.render.text import frame_font_size, load_font, truncate_text
from vitreous.render.theme import HUES, LABEL_INK, LABEL_MUTED, LABEL_PAPER, MUTED

MIN_COLORED_SCORE = 0.15
"""Score from which a class gets a color although it was never the first."""
MAX_NAMES = 4
MIN_NAMED_SCORE = 0.05
WINDOW_SECONDS = 10.0
EMPTY_COLOR = (34, 40, 54)
SHADES = (0.3, 0.65, -0.35)
"""How much the hues are lightened for a dark background: first all of them by the first value, then by the second."""
Scores = Sequence[tuple[str, float]]


class ClassStrip:
    """Draws the strip of one video, frame by frame.

    A class gets a color when it first has the highest score, or a score of at least 15 %. After 21 classes the colors
    start over. The scores of a moment are stacked in the order in which the classes got their colors. If the duration
    is known, the strip fills from left to right over the video; else it scrolls over the last ten seconds.

    Attributes:
        height: of the strip in pixels, chosen so that image and strip together have an even height.
    """

    def __init__(self, image_hw: tuple[int, int], duration_seconds: float | None = None) -> None:
        if duration_seconds is not None and not duration_seconds > 0:
            raise InputError(f"a duration of {duration_seconds} seconds is invalid: give a positive one, or None")
        self._duration = duration_seconds
        self._font_size = frame_font_size(image_hw)
        self._width = image_hw[1]
        self._margin, self._text_height = round(0.8 * self._font_size), round(1.9 * self._font_size)
        height = self._text_height + round(1.5 * self._font_size) + self._margin
        self.height = height + (height + image_hw[0]) % 2
        """In pixels, such that image and strip together are even."""
        self._band = np.empty((round(1.5 * self._font_size), max(1, self._width - 2 * self._margin), 3), np.uint8)
        self._band[:] = EMPTY_COLOR
        self._filled = 0
        self._colors: dict[str, tuple[int, int, int]] = {}

    def update(self, time_seconds: float, scores: Scores) -> np.ndarray:
        """Add the next frame and return the strip, a new uint8 (`height`, width, 3).

        Args:
            time_seconds: the frame's time.
            scores: labels with probabilities, highest first.
        """
        for rank, (name, probability) in enumerate(scores):
            if name not in self._colors and (not rank or probability >= MIN_COLORED_SCORE):
                self._colors[name] = class_color(len(self._colors))
        self._advance(float(time_seconds), dict(scores))
        listed = [(name, score) for name, score in scores[:MAX_NAMES] if score >= MIN_NAMED_SCORE]
        texts = tuple((f"{name} {100 * score:.0f} %", self._colors.get(name)) for name, score in listed)
        strip = draw_names_line(texts, (self.height, self._width), self._font_size, self._margin).copy()
        top, left = self._text_height, self._margin
        strip[top : top + self._band.shape[0], left : left + self._band.shape[1]] = self._with_playhead()
        return strip

    def _advance(self, time_seconds: float, scores: dict[str, float]) -> None:
        """Fill the columns from the previous frame to this one."""
        width = self._band.shape[1]
        now = int(width * time_seconds / (self._duration or WINDOW_SECONDS)) + 1
        if self._duration is None and now > width:
            scrolled = min(width, now - max(self._filled, width))
            if scrolled > 0:
                self._band[:, min(self._filled, width) :] = self._column(scores)[:, None]
                self._band[:, : width - scrolled] = self._band[:, scrolled:].copy()
            first, last = width - max(scrolled, 1), width
        else:
            first, last = min(self._filled, now - 1, width - 1), min(now, width)
        self._band[:, first:last] = self._column(scores)[:, None]
        self._filled = now

    def _column(self, scores: dict[str, float]) -> np.ndarray:
        """Return the colors of one moment, from the bottom up: uint8 (height, 3)."""
        height = self._band.shape[0]
        column = np.empty((height, 3), np.uint8)
        column[:], level = EMPTY_COLOR, 0.0
        for name, color in self._colors.items():
            upper = level + scores.get(name, 0.0) * height
            column[height - min(height, round(upper)) : height - round(level)] = color
            level = upper
        return column

    def _with_playhead(self) -> np.ndarray:
        """Return the band with a line at the current time, unless it scrolls."""
        drawn = self._band.copy()
        if self._filled <= drawn.shape[1]:
            drawn[:, max(0, self._filled - 1)] = 255
        return drawn


@lru_cache(maxsize=16)
def draw_names_line(
    texts: tuple[tuple[str, tuple[int, int, int] | None], ...], size_hw: tuple[int, int], font_size: int, margin: int
) -> np.ndarray:
    """Draw the empty strip with the labels after squares of their colors: uint8, read-only."""
    paper = Image.new("RGB", (size_hw[1], size_hw[0]), LABEL_PAPER)
    draw, left, middle = ImageDraw.Draw(paper), margin, round(0.98 * font_size)
    for rank, (text, color) in enumerate(texts):
        font, side = load_font(font_size, bold=not rank), round(0.62 * font_size)
        room = size_hw[1] - left - side - round(0.5 * font_size) - margin
        drawn = truncate_text(text, font, room) if room > 0 else ""
        if not drawn or (rank and drawn != text):
            break
        top = middle - side // 2
        draw.rounded_rectangle((left, top, left + side, top + side), max(1, side // 5), fill=color or MUTED)
        left += side + round(0.5 * font_size)
        draw.text((left, middle), drawn, fill=LABEL_MUTED if rank else LABEL_INK, font=font, anchor="lm")
        left += round(font.getlength(drawn)) + font_size
    pixels = np.asarray(paper)
    pixels.setflags(write=False)
    return pixels


def class_color(number: int) -> tuple[int, int, int]:
    """Return the color of the class with this number, in the order in which classes get colors."""
    cycle, hue = divmod(number, len(HUES))
    return lighten(HUES[hue], SHADES[cycle % len(SHADES)])


def lighten(color: str, by: float) -> tuple[int, int, int]:
    """Move a color towards white by a fraction from 0 to 1, or towards black by one from 0 to -1."""
    end = 255 if by > 0 else 0
    red, green, blue = (round(value + abs(by) * (end - value)) for value in ImageColor.getrgb(color)[:3])
    return red, green, blue


def append_strip(frame_u8: np.ndarray, strip: np.ndarray) -> np.ndarray:
    """Append the strip, of the frame's width, under the frame: uint8."""
    assert frame_u8.shape[1] == strip.shape[1], (frame_u8.shape, strip.shape)
    return np.concatenate([frame_u8, strip])
