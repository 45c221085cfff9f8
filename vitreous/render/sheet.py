"""Compose several images on one sheet: an image and its explanation, layers by heads, a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.image import as_image, resize_to_fit
from vitreous.render.layout import (
    SHEET_MARGIN,
    add_border,
    add_margin,
    arrange_grid,
    paste_on_paper,
    side_by_side,
    stack,
    with_heading,
)
from vitreous.render.outline import draw_outline
from vitreous.render.overlay import overlay
from vitreous.render.text import CORRECT_MARK, WRONG_MARK, TextLine, text_block
from vitreous.render.theme import CORRECT, INK, MUTED, WRONG

SHEET_WIDTH = 1600
MIN_TEXT_WIDTH = 560
MAX_PANEL_HW = (900, 740)
MIN_PANEL = 560
MAX_TILE = 280
MIN_TILE = 24
ROW_TITLE_WIDTH = 140
GALLERY_SIDE = 172
LEGEND_BAR_WIDTH = 380
MAX_SHORT_TITLE = 24


@dataclass(frozen=True)
class MapLegend:
    """The name of a map, what its two end colors mean, and whether 0 is in the middle."""

    name: str = "attention"
    end_labels: tuple[str, str] | None = ("low", "high attention")
    """Meaning of the two ends; None where the colors have no order."""
    signed: bool = False
    end_values: tuple[str, str] | None = None
    """The numbers at the two ends, if all maps share one scale."""


ATTENTION_LEGEND = MapLegend()


@dataclass(frozen=True)
class Tile:
    """One image, uint8 (height, width, 3) or an Image, and the lines under it, the first one in `color`."""

    image: np.ndarray | Image.Image
    lines: tuple[str, ...] = ()
    color: str = INK
    outlined: np.ndarray | None = None
    """Pixels to outline: bool (height, width)."""


@dataclass(frozen=True)
class GalleryItem:
    """An image and its explanation, both uint8 (height, width, 3), the true label if known, and the prediction.

    Attributes:
        prediction: with its score, as a caption; "" for a model that predicts nothing.
        is_correct: whether it is the truth; None if that is unknown.
    """

    image_u8: np.ndarray
    overlay_u8: np.ndarray
    truth: str | None
    prediction: str
    is_correct: bool | None
    outlined: np.ndarray | None = None
    """Pixels to outline in both images: bool (height, width)."""
    name: str = ""
    """The name of the image's file."""


def draw_tiles(
    tiles: Sequence[Tile],
    columns: int,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    title: str = "",
    *,
    legends: Sequence[MapLegend] = (),
) -> Image.Image:
    """Arrange the tiles in rows of `columns`, as large as fits a sheet about 1600 pixels wide.

    Args:
        tiles: the images with their captions.
        columns: tiles per row.
        row_titles: one per row.
        column_titles: one per column.
        title: of the sheet.
        legends: maps whose color bars are drawn at the bottom.

    Raises:
        InputError: there are no tiles, or `columns` is below 1.
    """
    if not tiles or columns < 1:
        raise InputError(f"{len(tiles)} images in {columns} columns make no sheet: give at least one of each")
    room = SHEET_WIDTH - 2 * SHEET_MARGIN - (ROW_TITLE_WIDTH if row_titles else 0)
    gap, width = _tile_layout(columns, room)
    size = min(18, max(13, width // 9))
    rows: list[list[Image.Image | None]] = [
        _row(tiles[i : i + columns], width, size) for i in range(0, len(tiles), columns)
    ]
    headings = [text_block([TextLine(text, size, MUTED)], width, align=0.5) for text in column_titles[:columns]]
    if headings:
        rows.insert(0, [*headings])
    if row_titles:
        names = [text_block([TextLine(text, size, MUTED)], ROW_TITLE_WIDTH, shrink=True) for text in row_titles]
        titles = [*([None] if headings else []), *names, *[None] * len(rows)]
        rows = [[name, *row] for name, row in zip(titles, rows, strict=False)]
    return _sheet([arrange_grid(rows, (gap, gap), (0.5, 0))], title, legends)


def _tile_layout(columns: int, room: int = SHEET_WIDTH - 2 * SHEET_MARGIN) -> tuple[int, int]:
    """Return the gap between the tiles of a row, and their width."""
    gap = 8 if columns > 5 else 20
    return gap, min(MAX_TILE, max(MIN_TILE, (room - gap * (columns - 1)) // columns))


def fit_tile(tile: Tile, columns: int) -> Tile:
    """Return a tile with its image as small as `draw_tiles` shows it in so many columns without row titles."""
    width = _tile_layout(columns)[1]
    return replace(tile, image=fit_and_outline(tile.image, (round(width * 1.5), width), tile.outlined), outlined=None)


def fit_gallery_item(item: GalleryItem) -> GalleryItem:
    """Return an item with its images as small as `gallery_sheet` shows them."""
    images = [
        np.asarray(fit_and_outline(u8, (GALLERY_SIDE, GALLERY_SIDE), item.outlined))
        for u8 in (item.image_u8, item.overlay_u8)
    ]
    return replace(item, image_u8=images[0], overlay_u8=images[1], outlined=None)


def _row(tiles: Sequence[Tile], width: int, size_pixels: int) -> list[Image.Image | None]:
    """Draw one row of tiles of equal height, images centered on one line and captions aligned."""
    images = [fit_and_outline(item.image, (round(width * 1.5), width), item.outlined) for item in tiles]
    height = max(image.height for image in images)
    cells = [paste_on_paper(image, (height, width), (0.5, 0.5)) for image in images]
    for i, item in enumerate(tiles):
        lines = [
            TextLine(text, size_pixels, MUTED if k else item.color, bold=not k) for k, text in enumerate(item.lines)
        ]
        if lines:
            cells[i] = stack([cells[i], text_block(lines, width)], gap=6)
    tallest = max(cell.height for cell in cells)
    return [paste_on_paper(cell, (tallest, width)) for cell in cells]


def head_grid_sheet(overlays: Sequence[Sequence[np.ndarray]], title: str = "layers by heads") -> Image.Image:
    """Draw one overlay, uint8 (height, width, 3), per layer (rows) and head (columns), both counted from 0.

    Raises:
        InputError: there is no overlay, or the layers differ in their number of heads.
    """
    heads = {len(row) for row in overlays}
    if len(heads) != 1 or 0 in heads:
        raise InputError(f"layers with {sorted(heads)} heads make no table: give the same number of overlays for each")
    columns = heads.pop()
    tiles = [Tile(overlay_u8) for row in overlays for overlay_u8 in row]
    names = [f"layer {layer}" for layer in range(len(overlays))]
    return draw_tiles(
        tiles, columns, names, [f"head {head}" for head in range(columns)], title, legends=[ATTENTION_LEGEND]
    )


def explanation_sheet(
    images_u8: tuple[np.ndarray, np.ndarray],
    title: str,
    lines: Sequence[str],
    legend: MapLegend = ATTENTION_LEGEND,
    *,
    correct: bool | None = None,
    outlined: np.ndarray | None = None,
) -> Image.Image:
    """Draw the image and its overlay side by side, with a title and a color bar: an Image at most 1600 pixels wide.

    Args:
        images_u8: the image and its overlay, uint8 (height, width, 3).
        title: the prediction and its probability.
        lines: the true label, the method, the layer, the head.
        legend: of the map.
        correct: whether the prediction is correct; None if the true label is not known.
        outlined: pixels to outline in both images, bool (height, width).
    """
    panels = [_panel(image, name, outlined) for image, name in zip(images_u8, ("input", legend.name), strict=True)]
    images = side_by_side(panels, gap=36)
    width = max(MIN_TEXT_WIDTH, images.width)
    heading = text_block([_prediction_line(title, correct, 30, max_lines=2)], width)
    bar = color_bar(min(380, width // 2), legend) if legend.end_labels else None
    text_lines = [TextLine(line, 19, MUTED, max_lines=2) for line in lines]
    notes = text_block(text_lines, width if bar is None else width - bar.width - 36)
    footer = notes if bar is None else paste_on_paper(bar, (max(bar.height, notes.height), width), (0, 1))
    footer.paste(notes, (0, 0))
    return add_margin(stack([heading, images, footer], gap=20), SHEET_MARGIN)


def _panel(image: np.ndarray, name: str, outlined: np.ndarray | None) -> Image.Image:
    rgb = as_image(image)
    factor = max(1.0, MIN_PANEL / max(rgb.size))
    box_hw = (round(rgb.height * factor), round(rgb.width * factor))
    image_shown = fit_and_outline(rgb, (min(MAX_PANEL_HW[0], box_hw[0]), min(MAX_PANEL_HW[1], box_hw[1])), outlined)
    return with_heading(name, add_border(image_shown))


def fit_and_outline(
    image: np.ndarray | Image.Image, box_hw: tuple[int, int], outlined: np.ndarray | None
) -> Image.Image:
    """Resize the image to fit a box, and draw a thin outline that is closed at the image's border."""
    image_shown = resize_to_fit(image, box_hw)
    if outlined is None:
        return image_shown
    mask = np.asarray(Image.fromarray(outlined).resize(image_shown.size, Image.Resampling.NEAREST))
    framed = np.pad(np.asarray(image_shown), ((1, 1), (1, 1), (0, 0)), mode="edge")
    return Image.fromarray(draw_outline(framed, np.pad(mask, 1))[1:-1, 1:-1])


def color_bar(width_pixels: int, legend: MapLegend) -> Image.Image:
    """Draw a slim color bar between two labels, as the overlay colors a gray image, with the values at its ends.

    The colors of the legend must have an order.
    """
    assert legend.end_labels is not None, legend
    names = [text_block([TextLine(text, 17, MUTED)], width_pixels, shrink=True) for text in legend.end_labels]
    length = max(16, width_pixels - sum(word.width for word in names) - 24)
    ramp = np.tile(np.linspace(-1 if legend.signed else 0, 1, length, dtype=np.float32), (12, 1))
    bar = Image.fromarray(overlay(np.full((12, length, 3), 110, np.uint8), ramp, signed=legend.signed))
    rows: list[list[Image.Image | None]] = [[names[0], bar, names[1]]]
    if legend.end_values:
        low, high = (text_block([TextLine(text, 14, MUTED)], length, shrink=True) for text in legend.end_values)
        ticks = paste_on_paper(high, (high.height, max(length, low.width + high.width + 16)), (0, 1))
        ticks.paste(low, (0, 0))
        rows.append([None, ticks])
    return arrange_grid(rows, (2, 12), (0.5, 0.5))


def _prediction_line(text: str, correct: bool | None, size_pixels: int, max_lines: int = 1) -> TextLine:
    """Return the text with the mark and in the color of a correct or a wrong prediction; plain if that is not known."""
    mark = "" if correct is None else f"{CORRECT_MARK if correct else WRONG_MARK} "
    color = INK if correct is None else CORRECT if correct else WRONG
    return TextLine(mark + text, size_pixels, color, bold=True, max_lines=max_lines)


def gallery_sheet(
    rows: Sequence[GalleryItem],
    title: str = "true label / prediction / attention",
    *,
    legends: Sequence[MapLegend] = (),
) -> Image.Image:
    """Draw all items in a grid: the image on the left, its explanation on the right, prediction and true label below.

    Correct predictions are green with a check, wrong ones red with a cross, unknown ones plain. The color bars of
    `legends` are drawn at the bottom.

    Raises:
        InputError: there are no items.
    """
    if not rows:
        raise InputError("a gallery of no images can't be drawn: give at least one item")
    box_hw = (GALLERY_SIDE, GALLERY_SIDE)
    images = [[fit_and_outline(u8, box_hw, item.outlined) for u8 in (item.image_u8, item.overlay_u8)] for item in rows]
    height = max(image.height for pair in images for image in pair)
    blocks = [_gallery_block(item, pair, height) for item, pair in zip(rows, images, strict=True)]
    columns = min(4, len(blocks))
    table = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    return _sheet([arrange_grid(table, (28, 32))], title, legends)


def _gallery_block(item: GalleryItem, pair: Sequence[Image.Image], height: int) -> Image.Image:
    images = side_by_side([paste_on_paper(image, (height, GALLERY_SIDE), (0.5, 0.5)) for image in pair], gap=4)
    lines = [_prediction_line(item.prediction, item.is_correct, 21)] if item.prediction else []
    if item.truth is not None:
        lines.append(TextLine(f"true label: {item.truth}", 18, MUTED))
    if item.name:
        lines.append(TextLine(item.name, 15, MUTED))
    return stack([images, text_block(lines, images.width)], gap=8) if lines else images


def _sheet(blocks: list[Image.Image], title: str, legends: Sequence[MapLegend]) -> Image.Image:
    width = max(MIN_TEXT_WIDTH if legends or len(title) > MAX_SHORT_TITLE else 240, blocks[0].width)
    heading = [text_block([TextLine(title, 28, bold=True, max_lines=2)], width)] if title else []
    return add_margin(stack([*heading, *blocks, *_legend_block(legends, width)], gap=24), SHEET_MARGIN)


def _legend_block(legends: Sequence[MapLegend], width_pixels: int) -> list[Image.Image]:
    """Draw the color bars side by side, or stacked if there is no room, and the notes that hold for all of them."""
    if not legends:
        return []
    bars = [color_bar(LEGEND_BAR_WIDTH, legend) for legend in legends if legend.end_labels]
    names = [legend.name for legend in legends if not legend.end_labels]
    has_own_scales = any(legend.end_labels and not legend.end_values for legend in legends)
    names += ["each map has its own color scale"] if has_own_scales else []
    notes = text_block([TextLine(" · ".join(names), 17, MUTED, max_lines=3)], width_pixels)
    bars_width = sum(bar.width for bar in bars) + 48 * (len(bars) - 1)
    return [stack([*([side_by_side(bars, gap=48)] if bars and bars_width <= width_pixels else bars), notes], gap=8)]
