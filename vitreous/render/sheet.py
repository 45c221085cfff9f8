"""Several images on one sheet: an image and its explanation, layers by heads, a gallery, the patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from vitreous.errors import InputError
from vitreous.render.fonts import CORRECT_MARK, WRONG_MARK, load_font
from vitreous.render.image import as_image, resize_to_fit
from vitreous.render.layout import add_border, add_margin, arrange_grid, place_on_paper, side_by_side, stack
from vitreous.render.outline import draw_outline
from vitreous.render.overlay import overlay
from vitreous.render.text import Line, text_block
from vitreous.render.theme import INK, MUTED, PAPER, RIGHT, WRONG

SHEET_WIDTH = 1600
MARGIN = 40
NARROWEST_TEXT = 560
LARGEST_PANEL_HW = (900, 740)
COMFORTABLE_PANEL = 560
LARGEST_TILE = 280
SMALLEST_TILE = 24
ROW_TITLE_WIDTH = 140
PATCHES_PANEL_HW = (820, 640)
ROOM_FOR_NUMBER = 54
GALLERY_SIDE = 172
FOOT_BAR = 380
SHORT_TITLE = 24


@dataclass(frozen=True)
class Legend:
    """What a map is called, what its colors mean from the one end to the other, and whether 0 is in the middle."""

    name: str = "attention"
    ends: tuple[str, str] | None = ("little", "much attention")
    """None where colors have no order."""
    signed: bool = False
    values: tuple[str, str] | None = None
    """The numbers at the two ends, where one scale holds for all that the legend stands beside."""


ATTENTION = Legend()


@dataclass(frozen=True)
class Tile:
    """One image, uint8 (height, width, 3) or an Image, and the lines under it, the first one in `color`."""

    image: np.ndarray | Image.Image
    lines: tuple[str, ...] = ()
    color: str = INK
    marked: np.ndarray | None = None
    """What of the image is outlined: bool (height, width)."""


@dataclass(frozen=True)
class GalleryItem:
    """An image and its explanation, both uint8 (height, width, 3), and the answer: probability in [0, 1].

    The prediction is empty for a model without classes.
    """

    image_u8: np.ndarray
    overlay_u8: np.ndarray
    truth: str | None
    prediction: str
    probability: float
    marked: np.ndarray | None = None
    """What of both is outlined: bool (height, width)."""


def tile(
    tiles: Sequence[Tile],
    columns: int,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    title: str = "",
    *,
    legends: Sequence[Legend] = (),
) -> Image.Image:
    """The tiles in rows of `columns`, each as large as fits a sheet about 1600 pixels wide, with titles if given.

    Color bars for `legends` stand under them.

    Raises:
        InputError: there are no tiles, or `columns` is below 1.
    """
    if not tiles or columns < 1:
        raise InputError(f"{len(tiles)} images in {columns} columns make no sheet: give at least one of each")
    room = SHEET_WIDTH - 2 * MARGIN - (ROW_TITLE_WIDTH if row_titles else 0)
    gap = 8 if columns > 5 else 20
    width = min(LARGEST_TILE, max(SMALLEST_TILE, (room - gap * (columns - 1)) // columns))
    size = min(18, max(13, width // 9))
    rows: list[list[Image.Image | None]] = [
        _row(tiles[i : i + columns], width, size) for i in range(0, len(tiles), columns)
    ]
    headings = [text_block([Line(text, size, MUTED)], width, align=0.5) for text in column_titles[:columns]]
    if headings:
        rows.insert(0, [*headings])
    if row_titles:
        names = [text_block([Line(text, size, MUTED)], ROW_TITLE_WIDTH, shrink=True) for text in row_titles]
        titles = [*([None] if headings else []), *names, *[None] * len(rows)]
        rows = [[name, *row] for name, row in zip(titles, rows, strict=False)]
    return _sheet([arrange_grid(rows, (gap, gap), (0.5, 0))], title, legends)


def _row(tiles: Sequence[Tile], width: int, size_pixels: int) -> list[Image.Image | None]:
    """One row of tiles, equally high, their images centerd on one line and their captions starting on another."""
    images = [_shown(each.image, (round(width * 1.5), width), each.marked) for each in tiles]
    height = max(image.height for image in images)
    cells = [place_on_paper(image, (height, width), (0.5, 0.5)) for image in images]
    for i, each in enumerate(tiles):
        lines = [Line(text, size_pixels, MUTED if k else each.color, bold=not k) for k, text in enumerate(each.lines)]
        if lines:
            cells[i] = stack([cells[i], text_block(lines, width)], gap=6)
    tallest = max(cell.height for cell in cells)
    return [place_on_paper(cell, (tallest, width)) for cell in cells]


def layers_by_heads(overlays: Sequence[Sequence[np.ndarray]], title: str = "layers by heads") -> Image.Image:
    """One overlay, uint8 (height, width, 3), for every layer (rows) and head (columns), both counted from 0.

    Raises:
        InputError: there is no overlay, or the layers differ in their number of heads.
    """
    heads = {len(row) for row in overlays}
    if len(heads) != 1 or 0 in heads:
        raise InputError(f"layers with {sorted(heads)} heads make no table: give the same number of overlays for each")
    columns = heads.pop()
    tiles = [Tile(overlay_u8) for row in overlays for overlay_u8 in row]
    names = [f"layer {layer}" for layer in range(len(overlays))]
    return tile(tiles, columns, names, [f"head {head}" for head in range(columns)], title, legends=[ATTENTION])


def draw_explanation(
    images_u8: tuple[np.ndarray, np.ndarray],
    title: str,
    lines: Sequence[str],
    legend: Legend = ATTENTION,
    *,
    right: bool | None = None,
    marked: np.ndarray | None = None,
) -> Image.Image:
    """The image and its overlay side by side, a title and a color bar: an Image at most 1600 pixels wide.

    `title` is the prediction and its probability, marked as `right` or wrong where the truth is known; `lines` say
    the rest: the truth, the method, the layer, the head. What is `marked`, bool (height, width), is outlined in both.
    """
    panels = [_panel(image, name, marked) for image, name in zip(images_u8, ("input", legend.name), strict=True)]
    images = side_by_side(panels, gap=36)
    width = max(NARROWEST_TEXT, images.width)
    heading = text_block([_verdict(title, right, 30, most_lines=2)], width)
    bar = color_bar(min(380, width // 2), legend) if legend.ends else None
    written = [Line(line, 19, MUTED, most_lines=2) for line in lines]
    notes = text_block(written, width if bar is None else width - bar.width - 36)
    foot = notes if bar is None else place_on_paper(bar, (max(bar.height, notes.height), width), (0, 1))
    foot.paste(notes, (0, 0))
    return add_margin(stack([heading, images, foot], gap=20), MARGIN)


def _panel(image: np.ndarray, name: str, marked: np.ndarray | None) -> Image.Image:
    rgb = as_image(image)
    factor = max(1.0, COMFORTABLE_PANEL / max(rgb.size))
    box_hw = (round(rgb.height * factor), round(rgb.width * factor))
    shown = _shown(rgb, (min(LARGEST_PANEL_HW[0], box_hw[0]), min(LARGEST_PANEL_HW[1], box_hw[1])), marked)
    return _named(name, add_border(shown))


def _shown(image: np.ndarray | Image.Image, box_hw: tuple[int, int], marked: np.ndarray | None) -> Image.Image:
    """The image fitted into a box, and on it a thin line around what is marked, closed at the image's border."""
    shown = resize_to_fit(image, box_hw)
    if marked is None:
        return shown
    mask = np.asarray(Image.fromarray(marked).resize(shown.size, Image.Resampling.NEAREST))
    framed = np.pad(np.asarray(shown), ((1, 1), (1, 1), (0, 0)), mode="edge")
    return Image.fromarray(draw_outline(framed, np.pad(mask, 1))[1:-1, 1:-1])


def _named(name: str, block: Image.Image) -> Image.Image:
    return stack([text_block([Line(name, 17, MUTED)], 300, shrink=True), block], gap=8)


def color_bar(width_pixels: int, legend: Legend) -> Image.Image:
    """A slim bar between two words, drawn as the overlay draws a plain gray surface, and the values at its ends.

    The legend's colors must have an order.
    """
    assert legend.ends is not None, legend
    words = [text_block([Line(text, 17, MUTED)], width_pixels, shrink=True) for text in legend.ends]
    length = max(16, width_pixels - sum(word.width for word in words) - 24)
    heat = np.tile(np.linspace(-1 if legend.signed else 0, 1, length, dtype=np.float32), (12, 1))
    bar = Image.fromarray(overlay(np.full((12, length, 3), 110, np.uint8), heat, signed=legend.signed))
    rows: list[list[Image.Image | None]] = [[words[0], bar, words[1]]]
    if legend.values:
        low, high = (text_block([Line(text, 14, MUTED)], length, shrink=True) for text in legend.values)
        ticks = place_on_paper(high, (high.height, max(length, low.width + high.width + 16)), (0, 1))
        ticks.paste(low, (0, 0))
        rows.append([None, ticks])
    return arrange_grid(rows, (2, 12), (0.5, 0.5))


def _verdict(text: str, right: bool | None, size_pixels: int, most_lines: int = 1) -> Line:
    """The text with the mark and in the color of a right or a wrong answer; plain where the truth is not known."""
    mark = "" if right is None else f"{CORRECT_MARK if right else WRONG_MARK} "
    color = INK if right is None else RIGHT if right else WRONG
    return Line(mark + text, size_pixels, color, bold=True, most_lines=most_lines)


def gallery(
    rows: Sequence[GalleryItem], title: str = "truth / prediction / attention", *, legends: Sequence[Legend] = ()
) -> Image.Image:
    """All items in a grid: the image left, its explanation right, the answer and the truth under them.

    Right answers are green with a check, wrong ones red with a cross, unknown ones plain. Color bars for `legends`
    stand under them.

    Raises:
        InputError: there are no items.
    """
    if not rows:
        raise InputError("a gallery of no images can't be drawn: give at least one item")
    box_hw = (GALLERY_SIDE, GALLERY_SIDE)
    images = [[_shown(u8, box_hw, item.marked) for u8 in (item.image_u8, item.overlay_u8)] for item in rows]
    height = max(image.height for pair in images for image in pair)
    blocks = [_answer(item, pair, height) for item, pair in zip(rows, images, strict=True)]
    columns = min(4, len(blocks))
    table = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
    return _sheet([arrange_grid(table, (28, 32))], title, legends)


def _answer(item: GalleryItem, pair: Sequence[Image.Image], height: int) -> Image.Image:
    images = side_by_side([place_on_paper(image, (height, GALLERY_SIDE), (0.5, 0.5)) for image in pair], gap=4)
    right = None if item.truth is None else item.truth == item.prediction
    lines = [_verdict(f"{item.prediction} {100 * item.probability:.0f} %", right, 17)] if item.prediction else []
    if item.truth is not None:
        lines.append(Line(f"truth: {item.truth}", 15, MUTED))
    return stack([images, text_block(lines, images.width)], gap=8) if lines else images


def _sheet(blocks: list[Image.Image], title: str, legends: Sequence[Legend]) -> Image.Image:
    width = max(NARROWEST_TEXT if legends or len(title) > SHORT_TITLE else 240, blocks[0].width)
    heading = [text_block([Line(title, 24, bold=True, most_lines=2)], width)] if title else []
    return add_margin(stack([*heading, *blocks, *_foot(legends, width)], gap=24), MARGIN)


def _foot(legends: Sequence[Legend], width_pixels: int) -> list[Image.Image]:
    """The color bars beside each other, or under each other where there is no room, and what holds for all of them."""
    if not legends:
        return []
    bars = [color_bar(FOOT_BAR, legend) for legend in legends if legend.ends]
    words = [legend.name for legend in legends if not legend.ends]
    words += ["each map on a scale of its own"] if bars else []
    notes = text_block([Line(" · ".join(words), 17, MUTED, most_lines=3)], width_pixels)
    wide = sum(bar.width for bar in bars) + 48 * (len(bars) - 1)
    return [stack([*([side_by_side(bars, gap=48)] if bars and wide <= width_pixels else bars), notes], gap=8)]


def draw_patches(image_u8: np.ndarray, patch_size_hw: tuple[float, float], grid_hw: tuple[int, int]) -> Image.Image:
    """How the model cuts an image, uint8 (height, width, 3): left with thin cuts, right pulled apart and numbered.

    `patch_size_hw` is in pixels of this image and may be fractional, `grid_hw` the number of patches down and
    across. Patches are numbered from 0, row by row, where there is room for it; what no patch covers is left pale.

    Raises:
        InputError: the grid is empty, or reaches beyond the image by more than a pixel.
    """
    image = as_image(image_u8)
    covered = (patch_size_hw[0] * grid_hw[0], patch_size_hw[1] * grid_hw[1])
    if min(*covered, *grid_hw) <= 0 or covered[0] > image.height + 1 or covered[1] > image.width + 1:
        raise InputError(
            f"{grid_hw[0]}x{grid_hw[1]} patches of {patch_size_hw[0]:g}x{patch_size_hw[1]:g} pixels do not fit a "
            f"image of {image.height}x{image.width} (height x width): give the patch size in this image's pixels"
        )
    shown = resize_to_fit(image, PATCHES_PANEL_HW)
    rows = _edges(patch_size_hw[0] * shown.height / image.height, grid_hw[0], shown.height)
    columns = _edges(patch_size_hw[1] * shown.width / image.width, grid_hw[1], shown.width)
    apart = _pulled_apart(shown, rows, columns)
    count = f"{grid_hw[0]} × {grid_hw[1]} = {grid_hw[0] * grid_hw[1]} patches"
    panels = [_named("image", add_border(_cut(shown, rows, columns))), _named(count, add_margin(apart, 1))]
    return add_margin(side_by_side(panels, gap=44), MARGIN)


def _edges(step_pixels: float, count: int, limit: int) -> list[int]:
    return [min(limit, round(i * step_pixels)) for i in range(count + 1)]


def _cut(shown: Image.Image, rows: list[int], columns: list[int]) -> Image.Image:
    """The image with a light line and its shadow along every cut, and a pale rest where no patch reaches."""
    cut = Image.blend(shown, Image.new("RGB", shown.size, PAPER), 0.7)
    cut.paste(shown.crop((0, 0, columns[-1], rows[-1])), (0, 0))
    lines = Image.new("L", shown.size)
    draw = ImageDraw.Draw(lines)
    for y in rows[1:-1]:
        draw.line((0, y, columns[-1] - 1, y), fill=190)
    for x in columns[1:-1]:
        draw.line((x, 0, x, rows[-1] - 1), fill=190)
    cut.paste(Image.new("RGB", shown.size, INK), (1, 1), lines.point(lambda value: value // 3))
    cut.paste(Image.new("RGB", shown.size, PAPER), (0, 0), lines)
    return cut


def _pulled_apart(shown: Image.Image, rows: list[int], columns: list[int]) -> Image.Image:
    """The patches with gaps between them, each with its number in the corner if it is large enough."""
    side = min(rows[1] - rows[0], columns[1] - columns[0])
    gap = min(12, max(1, round(0.16 * side)))
    size_wh = (columns[-1] + gap * (len(columns) - 2), rows[-1] + gap * (len(rows) - 2))
    apart = Image.new("RGB", size_wh, PAPER)
    draw, face = ImageDraw.Draw(apart), load_font(min(17, max(1, round(side * 0.27))), bold=True)
    for row in range(len(rows) - 1):
        for column in range(len(columns) - 1):
            left, top = columns[column] + gap * column, rows[row] + gap * row
            apart.paste(shown.crop((columns[column], rows[row], columns[column + 1], rows[row + 1])), (left, top))
            if side >= ROOM_FOR_NUMBER:
                number, place = str(row * (len(columns) - 1) + column), (left + 5, top + 3)
                draw.text(place, number, fill=PAPER, font=face, stroke_width=2, stroke_fill=INK)
    return apart
