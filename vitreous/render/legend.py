"""The legend of a video frame: a slim color bar beside method, layer and head, in a corner."""

from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitreous.render.contours import HALO, LEVELS, LINE_COLORS
from vitreous.render.overlay import NEGATIVE_COLOR, POSITIVE_COLOR, overlay_levels
from vitreous.render.spotlight import spotlight
from vitreous.render.text import LABEL_FRACTION, draw_box, load_font, to_drawable, translucent, truncate_text
from vitreous.render.theme import LABEL_MUTED, LABEL_PAPER

GRAY = 128
BAR_LENGTH = 6.5
"""Length of the color bar over the font size."""
MIN_FONT_SIZE = 9
SEPARATOR = " · "


@lru_cache(maxsize=64)
def bar_pixels(length: int, thickness: int, kind: str = "overlay") -> np.ndarray:
    """Draw a color bar from low to high, as a kind of drawing shows it on gray: uint8 (thickness, length, 3).

    Args:
        length: in pixels.
        thickness: in pixels.
        kind: "overlay", "signed", "spotlight", "contour" or "signed contour" (the colors of its lines), or "own" for a
            map with colors of its own, which gets an empty bar.
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
    image_u8 = np.full((thickness, length, 3), GRAY, np.uint8)
    return (
        spotlight(image_u8, levels)
        if kind == "spotlight"
        else overlay_levels(image_u8, levels, signed=kind == "signed")
    )


def bar_caption(kind: str, end_labels: str = "") -> str:
    """Return the text about the bar: the meanings of a signed map's two ends, or the levels of contour lines."""
    if kind == "contour":
        return "lines at " + ", ".join(f"{100 * height:.0f}" for height in LEVELS) + " %"
    return end_labels if "signed" in kind else ""


def draw_legend(
    image_u8: np.ndarray, caption: str, kind: str, corner: str = "bottom left", end_labels: str = ""
) -> np.ndarray:
    """Draw the caption and a color bar in a translucent box on a copy of the image, uint8 (height, width, 3).

    The font grows with the image. On an image so small that the font would be illegible, parts of the caption are left
    out, from the last one on, then the bar, so that the box covers about the same fraction of small and large images.
    The method's name stays, truncated if necessary; an image too small for that is returned unchanged.
    """
    return draw_box(image_u8, legend_box(caption, kind, (image_u8.shape[0], image_u8.shape[1]), end_labels), corner)


@lru_cache(maxsize=64)
def legend_box(
    caption: str, kind: str, size_hw: tuple[int, int], end_labels: str = ""
) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Return the box with this caption for images of this size, in the form of `label_box`."""
    wanted_size = 0.86 * LABEL_FRACTION * (size_hw[0] * size_hw[1]) ** 0.5
    font_size = max(MIN_FONT_SIZE, round(wanted_size))
    margin, padding, font = round(font_size * 0.8), round(font_size * 0.62), load_font(font_size)
    bar = bar_pixels(round(BAR_LENGTH * font_size), max(4, round(0.42 * font_size)), kind)
    room = size_hw[1] - 2 * (margin + padding)
    bar_width = padding + bar.shape[1]
    bar_text = bar_caption(kind, end_labels)
    full_width = bar_width + font.getlength(to_drawable(SEPARATOR.join(text for text in (caption, bar_text) if text)))
    fraction = min(1, (wanted_size + 0.5) / MIN_FONT_SIZE)
    text = fit_caption(caption, bar_text, font, ceil(fraction * min(room, full_width)) - bar_width)
    if font.getlength(text) + bar_width > room:
        bar = bar_pixels(0, 0, "own")
    text_drawn = truncate_text(text, font, room) if room > 3 * font_size else ""
    gap = padding if text_drawn and bar.size else 0
    text_width = ceil(font.getlength(text_drawn))
    height, width = round(1.9 * font_size), 2 * padding + text_width + gap + bar.shape[1]
    if height + 2 * margin > size_hw[0] or width + 2 * margin > size_hw[1] or not (text_drawn or bar.size):
        return None
    box = Image.new("RGB", (width, height), LABEL_PAPER)
    if text_drawn:
        ImageDraw.Draw(box).text((padding, height // 2), text_drawn, fill=LABEL_MUTED, font=font, anchor="lm")
    added, see_through = translucent(box, round(font_size * 0.45))
    top, left = (height - bar.shape[0]) // 2, padding + text_width + gap
    added[top : top + bar.shape[0], left : left + bar.shape[1]] = bar.astype(np.uint16) << 8
    see_through[top : top + bar.shape[0], left : left + bar.shape[1]] = 0
    return added, see_through, margin


def fit_caption(caption: str, bar_text: str, font: ImageFont.FreeTypeFont, width_pixels: float) -> str:
    """Return as many parts of the caption as fit, in order, followed by the bar's own text; at least the first part.

    The bar's own text is dropped last, after all other parts but the method's name.
    """
    parts = caption.split(SEPARATOR)
    shorter = [[*parts[:count], bar_text] for count in range(len(parts), 0, -1)] + [parts[:1]]
    joined = [SEPARATOR.join(part for part in some if part) for some in shorter]
    return next((text for text in joined if font.getlength(to_drawable(text)) <= width_pixels), joined[-1])
