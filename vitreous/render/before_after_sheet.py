"""The sheet of two models on the same images: a row per image, with the maps of the earlier model and of the later."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from vitreous.errors import InputError
from vitreous.render.image import as_image
from vitreous.render.layout import SHEET_MARGIN, add_border, add_margin, arrange_grid, paste_on_paper, stack
from vitreous.render.sheet import LEGEND_BAR_WIDTH, MapLegend, Tile, color_bar, fit_and_outline
from vitreous.render.text import TextLine, text_block
from vitreous.render.theme import MUTED

COLUMNS = ("image", "before", "after")
SINGLE_BOX_HW, ROW_BOX_HW = (620, 480), (300, 300)
"""The box that an image fits into: alone on the sheet, and among others."""


@dataclass(frozen=True)
class BeforeAfterTexts:
    """The texts around the rows.

    Attributes:
        title: of the sheet.
        lines: below the title.
        models: what stands below the headings "before" and "after".
        note: says how the colors compare.
    """

    title: str
    lines: tuple[str, ...]
    models: tuple[tuple[str, ...], tuple[str, ...]]
    note: str


def fit_row(row: Sequence[Tile], *, alone: bool) -> list[Tile]:
    """Return the tiles of a row with their images as small as the sheet shows them, alone or among other rows."""
    box_hw = SINGLE_BOX_HW if alone else ROW_BOX_HW
    return [replace(tile, image=fit_and_outline(tile.image, box_hw, tile.outlined), outlined=None) for tile in row]


def before_after_sheet(rows: Sequence[Sequence[Tile]], texts: BeforeAfterTexts, legend: MapLegend) -> Image.Image:
    """Draw a row per image, each of three tiles: the image, the map before, the map after.

    Args:
        rows: three tiles each. The first line of a map is bold.
        texts: around the rows.
        legend: of the maps.

    Raises:
        InputError: there are no rows, or one has another number of tiles.
    """
    if not rows or any(len(row) != len(COLUMNS) for row in rows):
        raise InputError(f"a sheet needs rows of {len(COLUMNS)} tiles: give an image and its maps before and after")
    alone = len(rows) == 1
    width, gap = (SINGLE_BOX_HW[1] + 2, 28) if alone else (ROW_BOX_HW[1] + 2, 20)
    headings = [
        text_block([TextLine(name, 20, bold=True), *(TextLine(line, 16, MUTED) for line in lines)], width)
        for name, lines in zip(COLUMNS, ((), *texts.models), strict=True)
    ]
    body = arrange_grid([_draw_row(fit_row(row, alone=alone), width) for row in rows], (28, gap))
    table = stack([arrange_grid([headings], (0, gap)), body], gap=10)
    title = [TextLine(texts.title, 28, bold=True, max_lines=2)]
    head = text_block([*title, *(TextLine(line, 19, MUTED, max_lines=2) for line in texts.lines)], table.width)
    bar = [color_bar(LEGEND_BAR_WIDTH, legend)] if legend.end_labels else []
    note = text_block([TextLine(texts.note, 17, MUTED, max_lines=3)], table.width)
    return add_margin(stack([head, table, stack([*bar, note], gap=8)], gap=24), SHEET_MARGIN)


def _draw_row(tiles: Sequence[Tile], width: int) -> list[Image.Image]:
    """Draw fitted tiles: their images centered on one line, their texts below."""
    images = [add_border(as_image(tile.image)) for tile in tiles]
    height = max(image.height for image in images)
    cells = []
    for tile, image in zip(tiles, images, strict=True):
        small = tile.lines[0 if tile is tiles[0] else 1 :]
        lines = [TextLine(text, 20, tile.color, bold=True) for text in tile.lines[: len(tile.lines) - len(small)]]
        lines += [TextLine(text, 16, MUTED, max_lines=2) for text in small]
        cell = paste_on_paper(image, (height, width), (0.5, 0.5))
        cells.append(stack([cell, text_block(lines, width)], gap=8) if lines else cell)
    return cells
