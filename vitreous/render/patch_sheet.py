"""Draw how a model cuts an image into patches."""

import numpy as np
from PIL import Image, ImageDraw

from vitreous.errors import InputError
from vitreous.render.image import as_image, resize_to_fit
from vitreous.render.layout import SHEET_MARGIN, add_border, add_margin, side_by_side, with_heading
from vitreous.render.text import load_font
from vitreous.render.theme import INK, PAPER

PATCHES_PANEL_HW = (820, 640)
MIN_NUMBERED_PATCH = 54


def patches_sheet(image_u8: np.ndarray, patch_size_hw: tuple[float, float], grid_hw: tuple[int, int]) -> Image.Image:
    """Show how a model cuts an image into patches: on the left with thin cuts, on the right exploded and numbered.

    Patches are numbered from 0, row by row, if there is room. Pixels that no patch covers are pale.

    Args:
        image_u8: uint8 (height, width, 3).
        patch_size_hw: the size of a patch in pixels of this image; it may be fractional.
        grid_hw: the number of rows and columns.

    Raises:
        InputError: the grid is empty, or larger than the image by more than a pixel.
    """
    image = as_image(image_u8)
    covered = (patch_size_hw[0] * grid_hw[0], patch_size_hw[1] * grid_hw[1])
    if min(*covered, *grid_hw) <= 0 or covered[0] > image.height + 1 or covered[1] > image.width + 1:
        raise InputError(
            f"{grid_hw[0]}x{grid_hw[1]} patches of {patch_size_hw[0]:g}x{patch_size_hw[1]:g} pixels do not fit an "
            f"image of {image.height}x{image.width} (height x width): give the patch size in this image's pixels"
        )
    image_shown = resize_to_fit(image, PATCHES_PANEL_HW)
    rows = _cut_positions(patch_size_hw[0] * image_shown.height / image.height, grid_hw[0], image_shown.height)
    columns = _cut_positions(patch_size_hw[1] * image_shown.width / image.width, grid_hw[1], image_shown.width)
    exploded = _draw_exploded(image_shown, rows, columns)
    count = f"{grid_hw[0]} × {grid_hw[1]} = {grid_hw[0] * grid_hw[1]} patches"
    panels = [
        with_heading("image", add_border(_draw_cuts(image_shown, rows, columns))),
        with_heading(count, add_margin(exploded, 1)),
    ]
    return add_margin(side_by_side(panels, gap=44), SHEET_MARGIN)


def _cut_positions(step_pixels: float, count: int, limit: int) -> list[int]:
    return [min(limit, round(i * step_pixels)) for i in range(count + 1)]


def _draw_cuts(image_shown: Image.Image, rows: list[int], columns: list[int]) -> Image.Image:
    """Draw the image with a light line and its shadow along every cut; pixels that no patch covers are pale."""
    cut = Image.blend(image_shown, Image.new("RGB", image_shown.size, PAPER), 0.7)
    cut.paste(image_shown.crop((0, 0, columns[-1], rows[-1])), (0, 0))
    lines = Image.new("L", image_shown.size)
    draw = ImageDraw.Draw(lines)
    for y in rows[1:-1]:
        draw.line((0, y, columns[-1] - 1, y), fill=190)
    for x in columns[1:-1]:
        draw.line((x, 0, x, rows[-1] - 1), fill=190)
    cut.paste(Image.new("RGB", image_shown.size, INK), (1, 1), lines.point(lambda value: value // 3))
    cut.paste(Image.new("RGB", image_shown.size, PAPER), (0, 0), lines)
    return cut


def _draw_exploded(image_shown: Image.Image, rows: list[int], columns: list[int]) -> Image.Image:
    """Draw the patches with gaps between them, each with its number in the corner if it is large enough."""
    side = min(rows[1] - rows[0], columns[1] - columns[0])
    gap = min(12, max(1, round(0.16 * side)))
    size_wh = (columns[-1] + gap * (len(columns) - 2), rows[-1] + gap * (len(rows) - 2))
    exploded = Image.new("RGB", size_wh, PAPER)
    draw, font = ImageDraw.Draw(exploded), load_font(min(17, max(1, round(side * 0.27))), bold=True)
    for row in range(len(rows) - 1):
        for column in range(len(columns) - 1):
            left, top = columns[column] + gap * column, rows[row] + gap * row
            exploded.paste(
                image_shown.crop((columns[column], rows[row], columns[column + 1], rows[row + 1])), (left, top)
            )
            if side >= MIN_NUMBERED_PATCH:
                number, position = str(row * (len(columns) - 1) + column), (left + 5, top + 3)
                draw.text(position, number, fill=PAPER, font=font, stroke_width=2, stroke_fill=INK)
    return exploded
