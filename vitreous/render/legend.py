"""What the colors of a video mean, and what they show: a slim color bar beside the words, in a corner of a frame."""

from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitreous.render.contours import HALO, LEVELS, LINE_COLORS
from vitreous.render.fonts import load_font, to_drawable, truncate_text
from vitreous.render.overlay import NEGATIVE_COLOR, POSITIVE_COLOR, overlay_levels
from vitreous.render.spotlight import spotlight
from vitreous.render.text import LABEL_SHARE, draw_box, translucent
from vitreous.render.theme import LABEL_MUTED, LABEL_PAPER

GRAY = 128
BAR_LENGTH = 6.5
"""The bar's length in heights of letters."""
SMALLEST_LETTERS = 9
SEPARATOR = " · "


@lru_cache(maxsize=64)
def bar_pixels(length: int, thickness: int, kind: str = "overlay") -> np.ndarray:
    """The colors from little to much as the kind of drawing has them on a gray surface: uint8 (thickness, length, 3).

    `kind` is "overlay", "signed", "spotlight", "contour" or "signed contour", whose bar is its lines' colors, or "own"
    for a map whose colors mean nothing on a bar, which gets an empty one.
    """
    if kind == "own":
        return np.empty((thickness, 0, 3), np.uint8)
    length, thickness = max(8, length), max(3, thickness)
    if "contour" in kind:
        colors = (NEGATIVE_COLOR, POSITIVE_COLOR) if "signed" in kind else LINE_COLORS
        bar = np.empty((thickness, length, 3), np.uint8)
        bar[:] = HALO
        edges = np.linspace(0, length, len(colors) + 1).astype(int)
        for color, first, last in zip(colors, edges[:-1], edges[1:], strict=True):
            bar[:, first + (first > 0) : last - (last < length)] = color
        return bar
    levels = np.tile(np.linspace(0, 255, length).astype(np.uint8), (thickness, 1))
    gray = np.full((thickness, length, 3), GRAY, np.uint8)
    return spotlight(gray, levels) if kind == "spotlight" else overlay_levels(gray, levels, signed=kind == "signed")


def bar_caption(kind: str, ends: str = "") -> str:
    """What must be said about the bar: `ends`, the meanings of a signed map's two, or where contours run."""
    if kind == "contour":
        return "lines at " + ", ".join(f"{100 * height:.0f}" for height in LEVELS) + " %"
    return ends if "signed" in kind else ""


def draw_legend(image_u8: np.ndarray, words: str, kind: str, corner: str = "bottom left", ends: str = "") -> np.ndarray:
    """A copy of the image, uint8 (height, width, 3), with the words and a color bar in a translucent box.

    The letters grow with the image. Where it is so small that they would be too small to read, parts of the words are
    left out, from the last on, then the bar, so that the box takes about as much of a small image as of a large one.
    The method's name stays, ellipsised if need be; an image too small for that comes back as it was.
    """
    return draw_box(image_u8, legend_box(words, kind, (image_u8.shape[0], image_u8.shape[1]), ends), corner)


@lru_cache(maxsize=64)
def legend_box(
    words: str, kind: str, size_hw: tuple[int, int], ends: str = ""
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """The box for these words on images of this size, as `label_box` gives it."""
    natural = 0.86 * LABEL_SHARE * (size_hw[0] * size_hw[1]) ** 0.5
    letters = max(SMALLEST_LETTERS, round(natural))
    margin, padding, face = round(letters * 0.8), round(letters * 0.62), load_font(letters)
    bar = bar_pixels(round(BAR_LENGTH * letters), max(4, round(0.42 * letters)), kind)
    room = size_hw[1] - 2 * (margin + padding)
    taken = padding + bar.shape[1]
    of_bar = bar_caption(kind, ends)
    whole = taken + face.getlength(to_drawable(SEPARATOR.join(text for text in (words, of_bar) if text)))
    share = min(1, (natural + 0.5) / SMALLEST_LETTERS)
    said = fit_caption(words, of_bar, face, ceil(share * min(room, whole)) - taken)
    if face.getlength(said) + taken > room:
        bar = bar_pixels(0, 0, "own")
    shown = truncate_text(said, face, room) if room > 3 * letters else ""
    gap = padding if shown and bar.size else 0
    text_width = ceil(face.getlength(shown))
    height, width = round(1.9 * letters), 2 * padding + text_width + gap + bar.shape[1]
    if height + 2 * margin > size_hw[0] or width + 2 * margin > size_hw[1] or not (shown or bar.size):
        return None
    box = Image.new("RGB", (width, height), LABEL_PAPER)
    if shown:
        ImageDraw.Draw(box).text((padding, height // 2), shown, fill=LABEL_MUTED, font=face, anchor="lm")
    added, see_through = translucent(box, round(letters * 0.45))
    top, left = (height - bar.shape[0]) // 2, padding + text_width + gap
    added[top : top + bar.shape[0], left : left + bar.shape[1]] = bar.astype(np.uint16) << 8
    see_through[top : top + bar.shape[0], left : left + bar.shape[1]] = 0
    return added, see_through, margin


def fit_caption(words: str, of_bar: str, face: ImageFont.FreeTypeFont, width_pixels: float) -> str:
    """As many of the words' parts, from the first, as fit before the bar's own words; the first one in any case.

    The bar's own words go last, after all other parts but the method's name.
    """
    parts = words.split(SEPARATOR)
    shorter = [[*parts[:count], of_bar] for count in range(len(parts), 0, -1)] + [parts[:1]]
    joined = [SEPARATOR.join(part for part in some if part) for some in shorter]
    return next((said for said in joined if face.getlength(to_drawable(said)) <= width_pixels), joined[-1])
