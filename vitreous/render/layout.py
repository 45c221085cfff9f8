"""Arrange images and texts on paper: side by side, in a stack, or in a grid."""

from collections.abc import Sequence

from PIL import Image, ImageOps

from vitreous.render.text import TextLine, text_block
from vitreous.render.theme import HAIRLINE, MUTED, PAPER

SHEET_MARGIN = 40
"""Margin of a whole sheet in pixels."""


def paste_on_paper(block: Image.Image, size_hw: tuple[int, int], align_hw: tuple[float, float] = (0, 0)) -> Image.Image:
    """Place the block on a paper of `size_hw` pixels; `align_hw` 0 is top or left, 1 is bottom or right."""
    assert block.height <= size_hw[0] and block.width <= size_hw[1], (block.size, size_hw)
    paper = Image.new("RGB", (size_hw[1], size_hw[0]), PAPER)
    left = round(align_hw[1] * (size_hw[1] - block.width))
    paper.paste(block, (left, round(align_hw[0] * (size_hw[0] - block.height))))
    return paper


def stack(blocks: Sequence[Image.Image], gap: int = 0, align: float = 0.0) -> Image.Image:
    """Stack the blocks vertically, `gap` pixels apart; `align` 0 is left, 1 is right."""
    return arrange_grid([[block] for block in blocks], (gap, 0), (0, align))


def side_by_side(blocks: Sequence[Image.Image], gap: int = 0, align: float = 0.0) -> Image.Image:
    """Place the blocks side by side, `gap` pixels apart; `align` 0 is top, 1 is bottom."""
    return arrange_grid([blocks], (0, gap), (align, 0))


def arrange_grid(
    rows: Sequence[Sequence[Image.Image | None]], gap_hw: tuple[int, int], align_hw: tuple[float, float] = (0, 0)
) -> Image.Image:
    """Arrange the blocks in rows and columns that fit their largest block; a row may be short, None leaves a hole."""
    columns = max(len(row) for row in rows)
    heights = [max((block.height for block in row if block), default=0) for row in rows]
    widths = [
        max((block.width for row in rows for block in row[i : i + 1] if block), default=0) for i in range(columns)
    ]
    size_wh = (sum(widths) + gap_hw[1] * (columns - 1), sum(heights) + gap_hw[0] * (len(rows) - 1))
    paper = Image.new("RGB", size_wh, PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for block, width in zip(row, widths, strict=False):
            if block:
                spare_hw = (height - block.height, width - block.width)
                paper.paste(block, (left + round(align_hw[1] * spare_hw[1]), top + round(align_hw[0] * spare_hw[0])))
            left += width + gap_hw[1]
        top += height + gap_hw[0]
    return paper


def add_margin(block: Image.Image, margin: int) -> Image.Image:
    """Add a margin of paper on all sides."""
    return ImageOps.expand(block, margin, PAPER)


def add_border(block: Image.Image) -> Image.Image:
    """Add a hairline border of one pixel, so that a white image has an edge on white paper."""
    return ImageOps.expand(block, 1, HAIRLINE)


def with_heading(name: str, block: Image.Image) -> Image.Image:
    """Put a short heading above the block."""
    return stack([text_block([TextLine(name, 17, MUTED)], 300, shrink=True), block], gap=8)
