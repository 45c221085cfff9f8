"""The sheet of the images that are most similar to one image, each pair with maps of what makes the two alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.image import resize_to_fit
from vitreous.render.layout import (
    SHEET_MARGIN,
    add_border,
    add_margin,
    arrange_grid,
    paste_on_paper,
    side_by_side,
    stack,
)
from vitreous.render.sheet import GALLERY_SIDE, LEGEND_BAR_WIDTH, SHEET_WIDTH, MapLegend, color_bar
from vitreous.render.text import TextLine, text_block
from vitreous.render.theme import MUTED

QUERY_SIDE = 260
COLUMNS = 4


@dataclass(frozen=True)
class SimilarPair:
    """The query and a similar image, both with their maps, uint8 (height, width, 3), and the lines below them."""

    query_u8: np.ndarray
    neighbor_u8: np.ndarray
    title: str
    lines: tuple[str, ...] = ()


def similar_sheet(
    query_u8: np.ndarray, title: str, lines: Sequence[str], pairs: Sequence[SimilarPair], legend: MapLegend
) -> Image.Image:
    """Draw the query with a title, and below it the pairs in rows of four.

    Args:
        query_u8: the image, uint8 (height, width, 3).
        title: of the sheet.
        lines: below the title.
        pairs: the most similar image first.
        legend: of the maps.

    Raises:
        InputError: there are no pairs.
    """
    if not pairs:
        raise InputError("a sheet of no similar images can't be drawn: give at least one")
    columns = min(COLUMNS, len(pairs))
    blocks = [_pair_block(pair) for pair in pairs]
    table = arrange_grid([blocks[i : i + columns] for i in range(0, len(blocks), columns)], (28, 32))
    image = add_border(resize_to_fit(query_u8, (QUERY_SIDE, QUERY_SIDE)))
    room = max(620, min(table.width, SHEET_WIDTH) - image.width - 28)
    heading = [text_block([TextLine(title, 30, bold=True, max_lines=2)], room)]
    heading.append(text_block([TextLine(line, 19, MUTED, max_lines=2) for line in lines], room))
    if legend.end_labels:
        heading.append(color_bar(LEGEND_BAR_WIDTH, legend))
    top = side_by_side([image, stack(heading, gap=14)], gap=28, align=0.5)
    return add_margin(stack([top, table], gap=32), SHEET_MARGIN)


def _pair_block(pair: SimilarPair) -> Image.Image:
    images = [resize_to_fit(one, (GALLERY_SIDE, GALLERY_SIDE)) for one in (pair.query_u8, pair.neighbor_u8)]
    cells = [paste_on_paper(one, (GALLERY_SIDE, GALLERY_SIDE), (0.5, 0.5)) for one in images]
    both = side_by_side(cells, gap=4)
    lines = [TextLine(pair.title, 21, bold=True), *(TextLine(line, 16, MUTED) for line in pair.lines)]
    return stack([both, text_block(lines, both.width)], gap=8)
