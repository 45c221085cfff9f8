"""A thin strip under a clip: the classes it was taken for so far, as colored shares over time, with their names."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from vitreous.errors import InputError
from vitreous.render.fonts import load_font, truncate_text
from vitreous.render.theme import HUES, LABEL_INK, LABEL_MUTED, LABEL_PAPER, MUTED

LETTERS_SHARE = 0.021
SMALLEST_LETTERS = 11
COLOR_FROM = 0.15
"""The probability from which on a class that was never first gets a color."""
NAMES_AT_ONCE = 4
NAMED_FROM = 0.05
WINDOW_SECONDS = 10.0
EMPTY = (34, 40, 54)
LIGHTENED = 0.3
Ranking = Sequence[tuple[str, float]]


class ClassStrip:
    """Draws the strip of one clip, frame by frame.

    A class gets its color when it is first the most probable, or has at least 15 %; six of them, then no more. Each
    moment's probabilities lie on each other in the order in which classes got their colors. With a known duration the
    strip fills from left to right over the clip; without one, the last ten seconds pass by.
    """

    def __init__(self, image_hw: tuple[int, int], duration_seconds: float | None = None) -> None:
        if duration_seconds is not None and not duration_seconds > 0:
            raise InputError(f"a duration of {duration_seconds} seconds is none: give a positive one, or None")
        self._duration = duration_seconds
        self._letters = max(SMALLEST_LETTERS, round(LETTERS_SHARE * (image_hw[0] * image_hw[1]) ** 0.5))
        self._width = image_hw[1]
        self._margin, self._words_height = round(0.8 * self._letters), round(1.9 * self._letters)
        height = self._words_height + round(1.5 * self._letters) + self._margin
        self.height = height + (height + image_hw[0]) % 2
        """In pixels, such that image and strip together are even."""
        self._band = np.empty((round(1.5 * self._letters), max(1, self._width - 2 * self._margin), 3), np.uint8)
        self._band[:] = EMPTY
        self._reached = 0
        self._colors: dict[str, tuple[int, int, int]] = {}

    def update(self, time_seconds: float, ranking: Ranking) -> np.ndarray:
        """Take in the next frame's time and classes with probabilities, most probable first.

        Returns: the strip, a new uint8 (`height`, width, 3).
        """
        for place, (name, probability) in enumerate(ranking):
            if (
                name not in self._colors
                and len(self._colors) < len(HUES) - 1
                and (not place or probability >= COLOR_FROM)
            ):
                self._colors[name] = lightened(HUES[len(self._colors)])
        self._advance(float(time_seconds), dict(ranking))
        named = [(name, share) for name, share in ranking[:NAMES_AT_ONCE] if share >= NAMED_FROM]
        words = tuple((f"{name} {100 * share:.0f} %", self._colors.get(name)) for name, share in named)
        strip = words_line(words, (self.height, self._width), self._letters, self._margin).copy()
        top, left = self._words_height, self._margin
        strip[top : top + self._band.shape[0], left : left + self._band.shape[1]] = self._shown()
        return strip

    def _advance(self, time_seconds: float, shares: dict[str, float]) -> None:
        """Fill the columns from the last moment to this one."""
        width = self._band.shape[1]
        now = int(width * time_seconds / (self._duration or WINDOW_SECONDS)) + 1
        if self._duration is None and now > width:
            passed = min(width, now - max(self._reached, width))
            if passed > 0:
                self._band[:, min(self._reached, width) :] = self._column(shares)[:, None]
                self._band[:, : width - passed] = self._band[:, passed:].copy()
            first, last = width - max(passed, 1), width
        else:
            first, last = min(self._reached, now - 1, width - 1), min(now, width)
        self._band[:, first:last] = self._column(shares)[:, None]
        self._reached = now

    def _column(self, shares: dict[str, float]) -> np.ndarray:
        """The colors of one moment, from the bottom up: uint8 (height, 3)."""
        height = self._band.shape[0]
        column = np.empty((height, 3), np.uint8)
        column[:], level = EMPTY, 0.0
        for name, color in self._colors.items():
            upper = level + shares.get(name, 0.0) * height
            column[height - min(height, round(upper)) : height - round(level)] = color
            level = upper
        return column

    def _shown(self) -> np.ndarray:
        """The band with a line where the clip is now, unless it scrolls."""
        shown = self._band.copy()
        if self._reached <= shown.shape[1]:
            shown[:, max(0, self._reached - 1)] = 255
        return shown


@lru_cache(maxsize=16)
def words_line(
    words: tuple[tuple[str, tuple[int, int, int] | None], ...], size_hw: tuple[int, int], letters: int, margin: int
) -> np.ndarray:
    """The empty strip with the classes' names after squares of their colors: uint8, read-only."""
    paper = Image.new("RGB", (size_hw[1], size_hw[0]), LABEL_PAPER)
    draw, left, middle = ImageDraw.Draw(paper), margin, round(0.98 * letters)
    for place, (text, color) in enumerate(words):
        face, side = load_font(letters, bold=not place), round(0.62 * letters)
        room = size_hw[1] - left - side - round(0.5 * letters) - margin
        shown = truncate_text(text, face, room) if room > 0 else ""
        if not shown or (place and shown != text):
            break
        top = middle - side // 2
        draw.rounded_rectangle((left, top, left + side, top + side), max(1, side // 5), fill=color or MUTED)
        left += side + round(0.5 * letters)
        draw.text((left, middle), shown, fill=LABEL_MUTED if place else LABEL_INK, font=face, anchor="lm")
        left += round(face.getlength(shown)) + letters
    pixels = np.asarray(paper)
    pixels.setflags(write=False)
    return pixels


def lightened(hue: str) -> tuple[int, int, int]:
    """A color made for white paper, as light as a dark ground needs it."""
    red, green, blue = (round(value + LIGHTENED * (255 - value)) for value in ImageColor.getrgb(hue)[:3])
    return red, green, blue


def with_strip(frame_u8: np.ndarray, strip: np.ndarray) -> np.ndarray:
    """The frame with the strip, of its width, under it: uint8."""
    assert frame_u8.shape[1] == strip.shape[1], (frame_u8.shape, strip.shape)
    return np.concatenate([frame_u8, strip])
