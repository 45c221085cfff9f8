"""Text on images: the one font, wrapping and truncation, blocks of text, and labels in a corner of a video frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from vitreous.errors import unknown
from vitreous.render.image import check_image
from vitreous.render.theme import INK, LABEL_INK, LABEL_MUTED, LABEL_PAPER, PAPER

LINE_SPACING = 1.45
CORNERS = ("top left", "top right", "bottom left", "bottom right")
LABEL_FRACTION = 0.024
MIN_LABEL_SIZE = 11
LABEL_OPACITY = 0.72
SUPERSAMPLING = 4
MISSING_GLYPH = "□"
MAX_TEXT_LENGTH = 1000
CORRECT_MARK, WRONG_MARK = "✓", "✗"
FRAME_FONT_FRACTION = 0.021
MIN_FRAME_FONT_SIZE = 11


@dataclass(frozen=True)
class TextLine:
    """One paragraph of text: its size in pixels, color and weight, and the number of lines that it may wrap to."""

    text: str
    size_pixels: int = 18
    color: str = INK
    bold: bool = False
    max_lines: int = 1


def line_height(size_pixels: int) -> int:
    """Return the distance in pixels between two lines of this size."""
    return round(size_pixels * LINE_SPACING)


def text_block(
    lines: Sequence[TextLine], width_pixels: int, *, shrink: bool = False, align: float = 0.0
) -> Image.Image:
    """Draw the lines in a block at most `width_pixels` wide.

    Args:
        lines: the paragraphs.
        width_pixels: the width; text is wrapped to it.
        shrink: make the block only as wide as its text.
        align: the position of each line between the left edge (0) and the right one (1).
    """
    wrapped = [
        (text, line)
        for line in lines
        for text in wrap_text(line.text, load_font(line.size_pixels, bold=line.bold), width_pixels, line.max_lines)
    ]
    widths = [int(-(-load_font(line.size_pixels, bold=line.bold).getlength(text) // 1)) for text, line in wrapped]
    width = min(width_pixels, max(widths, default=1)) if shrink else width_pixels
    height = sum(line_height(line.size_pixels) for _, line in wrapped)
    block = Image.new("RGB", (max(1, width), max(1, height)), PAPER)
    draw, top = ImageDraw.Draw(block), 0
    for (text, line), part_width in zip(wrapped, widths, strict=True):
        position = (round(align * (width - part_width)), top + line_height(line.size_pixels) // 2)
        draw.text(position, text, fill=line.color, font=load_font(line.size_pixels, bold=line.bold), anchor="lm")
        top += line_height(line.size_pixels)
    return block


def draw_label(image_u8: np.ndarray, lines: Sequence[str], corner: str = "top left") -> np.ndarray:
    """Draw the lines in a translucent box in one of the `CORNERS` of a copy of the image, uint8 (height, width, 3).

    The font grows with the image. Lines that are too wide are truncated, lines without room are left out, and an image
    too small for any is returned unchanged.
    """
    check_image(image_u8)
    return draw_box(image_u8, label_box(tuple(lines), (image_u8.shape[0], image_u8.shape[1])), corner)


def draw_box(image_u8: np.ndarray, box: tuple[np.ndarray, np.ndarray, int] | None, corner: str) -> np.ndarray:
    """Draw a box from `label_box` into a corner of a copy of the image; None draws nothing."""
    if corner not in CORNERS:
        raise unknown("corner", corner, CORNERS)
    drawn = image_u8.copy()
    if box is None:
        return drawn
    added, background_weight, margin = box
    height, width = background_weight.shape[:2]
    top = margin if "top" in corner else image_u8.shape[0] - margin - height
    left = margin if "left" in corner else image_u8.shape[1] - margin - width
    region = drawn[top : top + height, left : left + width]
    region[:] = (region * background_weight + added) >> 8
    return drawn


@lru_cache(maxsize=64)
def label_box(lines: tuple[str, ...], size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Return the box with these lines for images of this size: what it adds, the image's weight (256ths), its margin.

    Both arrays are uint16, (height, width, 3) and (height, width, 1). The result is None if the image has no room.
    """
    size = max(MIN_LABEL_SIZE, round(LABEL_FRACTION * (size_hw[0] * size_hw[1]) ** 0.5))
    margin, padding, step = round(size * 0.8), round(size * 0.62), line_height(size)
    room_hw = (size_hw[0] - 2 * (margin + padding), size_hw[1] - 2 * (margin + padding))
    fonts = [load_font(size, bold=not i) for i in range(len(lines))]
    drawn_lines = [truncate_text(line, font, room_hw[1]) for line, font in zip(lines, fonts, strict=True)]
    drawn_lines = drawn_lines[: max(0, room_hw[0] // step)]
    if not any(drawn_lines):
        return None
    width = ceil(max(font.getlength(line) for line, font in zip(drawn_lines, fonts, strict=False))) + 2 * padding
    box = Image.new("RGB", (width, step * len(drawn_lines) + round(1.6 * padding)), LABEL_PAPER)
    draw = ImageDraw.Draw(box)
    for i, line in enumerate(drawn_lines):
        middle = round(0.8 * padding) + step * i + step // 2
        draw.text((padding, middle), line, fill=LABEL_MUTED if i else LABEL_INK, font=fonts[i], anchor="lm")
    return *translucent(box, size // 2), margin


def translucent(box: Image.Image, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a rounded box adds to each pixel under it, and the weight of that pixel (256ths), both uint16.

    The text, brighter than the box, is opaque.
    """
    large = Image.new("L", (box.width * SUPERSAMPLING, box.height * SUPERSAMPLING))
    area = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(area, radius * SUPERSAMPLING, fill=255)
    shape = np.asarray(large.resize(box.size, Image.Resampling.BOX), np.float32)[..., None] / 255
    pixels = np.asarray(box, np.float32)
    paper, ink = (np.asarray(ImageColor.getrgb(color), np.float32) for color in (LABEL_PAPER, LABEL_INK))
    ink_fraction = np.clip((pixels - paper).max(axis=2, keepdims=True) / (ink - paper).min(), 0, 1)
    opacity = shape * (LABEL_OPACITY + (1 - LABEL_OPACITY) * ink_fraction)
    arrays = np.floor(pixels * opacity * 256), np.floor((1 - opacity) * 256)
    added, background_weight = (array.astype(np.uint16) for array in arrays)
    return added, background_weight


def font_path(*, bold: bool = False) -> Path:
    """Return the path of DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")


@lru_cache(maxsize=128)
def load_font(size_pixels: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans at a size in pixels."""
    return ImageFont.truetype(str(font_path(bold=bold)), size_pixels)


def frame_font_size(size_hw: tuple[int, int]) -> int:
    """Return the size in pixels of the font on a video frame of this size."""
    return max(MIN_FRAME_FONT_SIZE, round(FRAME_FONT_FRACTION * (size_hw[0] * size_hw[1]) ** 0.5))


@lru_cache(maxsize=1)
def drawable_characters() -> frozenset[int]:
    """Return the code points that DejaVu Sans has a glyph for."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_path())).get_charmap())


def to_drawable(text: str) -> str:
    """Put the text on one line, with a box for every character that the font has no glyph for.

    >>> to_drawable("a\\n cat")
    'a cat'
    """
    text = " ".join(text[:MAX_TEXT_LENGTH].split())
    if text.isascii() and text.isprintable():
        return text
    known = drawable_characters()
    return "".join(
        character if character.isprintable() and ord(character) in known else MISSING_GLYPH for character in text
    )


def truncate_text(text: str, font: ImageFont.FreeTypeFont, width_pixels: float) -> str:
    """Truncate the text with an ellipsis if it is wider than `width_pixels`; return "" if not even that fits."""
    text = to_drawable(text)
    if font.getlength(text) <= width_pixels:
        return text
    low, high = -1, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width_pixels:
            low = middle
        else:
            high = middle
    return text[:low].rstrip() + "…" if low >= 0 else ""


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width_pixels: float, max_lines: int) -> list[str]:
    """Wrap the text between words into at most `max_lines` lines of `width_pixels`; the last line is truncated."""
    words = to_drawable(text).split(" ")
    lines = []
    while words and len(lines) < max_lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width_pixels:
            count += 1
        lines.append(truncate_text(" ".join(words[:count]), font, width_pixels))
        words = words[count:]
    return [*lines, truncate_text(" ".join(words), font, width_pixels)] if words else lines
