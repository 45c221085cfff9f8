"""Words on images: blocks of text, a caption under an image, a label in a corner of a video frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from vitreous.errors import unknown
from vitreous.render.fonts import load_font, truncate_text, wrap_text
from vitreous.render.image import check_image
from vitreous.render.theme import INK, LABEL_INK, LABEL_MUTED, LABEL_PAPER, PAPER

LINE_SPACING = 1.45
CORNERS = ("top left", "top right", "bottom left", "bottom right")
LABEL_SHARE = 0.024
SMALLEST_LABEL = 11
LABEL_OPACITY = 0.72
SMOOTHING = 4


@dataclass(frozen=True)
class Line:
    """One paragraph of text: its size in pixels, its color and weight, and the most lines it may be wrapped to."""

    text: str
    size_pixels: int = 18
    color: str = INK
    bold: bool = False
    most_lines: int = 1


def line_height(size_pixels: int) -> int:
    """The distance from one line of this size to the next, in pixels."""
    return round(size_pixels * LINE_SPACING)


def text_block(lines: Sequence[Line], width_pixels: int, *, shrink: bool = False, align: float = 0.0) -> Image.Image:
    """The lines under each other on paper, at most `width_pixels` wide; with `shrink` only as wide as they need.

    `align` places each line between the left edge (0) and the right one (1).
    """
    written = [
        (part, line)
        for line in lines
        for part in wrap_text(line.text, load_font(line.size_pixels, bold=line.bold), width_pixels, line.most_lines)
    ]
    widths = [int(-(-load_font(line.size_pixels, bold=line.bold).getlength(part) // 1)) for part, line in written]
    width = min(width_pixels, max(widths, default=1)) if shrink else width_pixels
    height = sum(line_height(line.size_pixels) for _, line in written)
    block = Image.new("RGB", (max(1, width), max(1, height)), PAPER)
    draw, top = ImageDraw.Draw(block), 0
    for (part, line), part_width in zip(written, widths, strict=True):
        place = (round(align * (width - part_width)), top + line_height(line.size_pixels) // 2)
        draw.text(place, part, fill=line.color, font=load_font(line.size_pixels, bold=line.bold), anchor="lm")
        top += line_height(line.size_pixels)
    return block


def draw_label(image_u8: np.ndarray, lines: Sequence[str], corner: str = "top left") -> np.ndarray:
    """A copy of the image, uint8 (height, width, 3), with the lines in a translucent box in one of the `CORNERS`.

    The letters grow with the image. Lines too wide are ellipsised, lines for which there is no room left out;
    an image too small for any comes back as it was.
    """
    check_image(image_u8)
    return draw_box(image_u8, label_box(tuple(lines), (image_u8.shape[0], image_u8.shape[1])), corner)


def draw_box(image_u8: np.ndarray, box: tuple[np.ndarray, np.ndarray, int] | None, corner: str) -> np.ndarray:
    """A copy of the image with a box as `label_box` makes them in a corner; without one, if there is none."""
    if corner not in CORNERS:
        raise unknown("corner", corner, CORNERS)
    drawn = image_u8.copy()
    if box is None:
        return drawn
    color, see_through, margin = box
    height, width = see_through.shape[:2]
    top = margin if "top" in corner else image_u8.shape[0] - margin - height
    left = margin if "left" in corner else image_u8.shape[1] - margin - width
    region = drawn[top : top + height, left : left + width]
    region[:] = (region * see_through + color) >> 8
    return drawn


@lru_cache(maxsize=64)
def label_box(lines: tuple[str, ...], size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int] | None:
    """The box for these lines on images of this size: what it adds, what shows through (256ths), its margin.

    Both arrays are uint16, (height, width, 3) and (height, width, 1). None if the image has no room for it.
    """
    size = max(SMALLEST_LABEL, round(LABEL_SHARE * (size_hw[0] * size_hw[1]) ** 0.5))
    margin, padding, step = round(size * 0.8), round(size * 0.62), line_height(size)
    room_hw = (size_hw[0] - 2 * (margin + padding), size_hw[1] - 2 * (margin + padding))
    faces = [load_font(size, bold=not i) for i in range(len(lines))]
    shown = [truncate_text(line, face, room_hw[1]) for line, face in zip(lines, faces, strict=True)]
    shown = shown[: max(0, room_hw[0] // step)]
    if not any(shown):
        return None
    width = ceil(max(face.getlength(line) for line, face in zip(shown, faces, strict=False))) + 2 * padding
    box = Image.new("RGB", (width, step * len(shown) + round(1.6 * padding)), LABEL_PAPER)
    draw = ImageDraw.Draw(box)
    for i, line in enumerate(shown):
        middle = round(0.8 * padding) + step * i + step // 2
        draw.text((padding, middle), line, fill=LABEL_MUTED if i else LABEL_INK, font=faces[i], anchor="lm")
    return *translucent(box, size // 2), margin


def translucent(box: Image.Image, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """What a box with round corners adds to each pixel under it, and how much of that pixel shows (256ths); uint16.

    The letters, brighter than the box, are opaque.
    """
    large = Image.new("L", (box.width * SMOOTHING, box.height * SMOOTHING))
    area = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(area, radius * SMOOTHING, fill=255)
    shape = np.asarray(large.resize(box.size, Image.Resampling.BOX), np.float32)[..., None] / 255
    pixels = np.asarray(box, np.float32)
    paper, ink = (np.asarray(ImageColor.getrgb(color), np.float32) for color in (LABEL_PAPER, LABEL_INK))
    letters = np.clip((pixels - paper).max(axis=2, keepdims=True) / (ink - paper).min(), 0, 1)
    opacity = shape * (LABEL_OPACITY + (1 - LABEL_OPACITY) * letters)
    arrays = np.floor(pixels * opacity * 256), np.floor((1 - opacity) * 256)
    added, see_through = (array.astype(np.uint16) for array in arrays)
    return added, see_through
