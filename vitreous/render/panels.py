"""Panels of a video frame: how many beside each other, how large, with a title over each and a header over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log

import numpy as np
from PIL import Image, ImageDraw

from vitreous.render.fonts import load_font, truncate_text
from vitreous.render.legend import bar_caption, bar_pixels
from vitreous.render.theme import LABEL_INK, LABEL_MUTED, LABEL_PAPER

MAX_SIZE_HW = (1600, 1920)
FONT_FRACTION = 0.021
MIN_FONT_SIZE = 11
PREFERRED_ASPECT = 16 / 9


@dataclass(frozen=True)
class Header:
    """The line over all panels: the answer on its left; on its right the words and a bar of this kind of colors."""

    prediction: str = ""
    caption: str = ""
    kind: str = "overlay"
    end_labels: str = ""


@dataclass(frozen=True)
class PanelGrid:
    """Where panels of one size lie: all in pixels; everything but the panels is ground."""

    columns: int
    rows: int
    panel_hw: tuple[int, int]
    gap: int
    title_height: int
    header_height: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the whole, both even."""
        height = self.header_height + self.rows * (self.title_height + self.panel_hw[0]) + self.gap * (self.rows - 1)
        width = self.columns * self.panel_hw[1] + self.gap * (self.columns - 1)
        return height + height % 2, width + width % 2

    @property
    def font_size(self) -> int:
        """The size of the header's letters in pixels."""
        return max(MIN_FONT_SIZE, round(FONT_FRACTION * (self.size_hw[0] * self.size_hw[1]) ** 0.5))


@lru_cache(maxsize=64)
def panel_grid(
    image_hw: tuple[int, int], count: int, columns: int | None = None, *, titles: bool = True, header: bool = True
) -> PanelGrid:
    """The grid of `count` panels of a clip of this size: about as wide for its height as the clip, at most 1920 wide.

    Panels are never larger than the image.
    """
    height, width = image_hw
    columns = columns or min(range(1, count + 1), key=lambda n: _imbalance(n, count, width / height))
    rows = ceil(count / columns)
    gap = max(2, round(0.004 * columns * width))
    factor = min(1.0, (MAX_SIZE_HW[1] / columns - gap) / width, (MAX_SIZE_HW[0] / rows - gap) / height)
    panel_hw = (max(2, round(factor * height)), max(2, round(factor * width)))
    letters = max(MIN_FONT_SIZE, round(FONT_FRACTION * (rows * panel_hw[0] * columns * panel_hw[1]) ** 0.5))
    title_height = round(1.9 * title_font_size(letters, panel_hw)) if titles else 0
    return PanelGrid(columns, rows, panel_hw, gap, title_height, round(2.3 * letters) if header else 0)


def _imbalance(columns: int, count: int, aspect: float) -> tuple[float, float]:
    """How far the whole is from the clip's aspect, empty places counted too; of equals, the nearer to 16:9 is first."""
    rows = ceil(count / columns)
    shape = abs(log(columns / rows)) + 0.7 * (rows * columns - count) / count
    return round(shape, 6), abs(log(aspect * columns / rows / PREFERRED_ASPECT))


def title_font_size(letters: int, panel_hw: tuple[int, int]) -> int:
    """The size of a panel title's letters: the header's, smaller where panels are."""
    return min(letters, max(MIN_FONT_SIZE, round(0.05 * (panel_hw[0] * panel_hw[1]) ** 0.5)))


def compose_panels(grid: PanelGrid, images: Sequence[np.ndarray], titles: Sequence[str], header: Header) -> np.ndarray:
    """The panels, uint8 of the grid's size, on their ground: a new uint8 (height, width, 3)."""
    frame = draw_background(grid, tuple(titles), header).copy()
    for i, image in enumerate(images):
        top, left = panel_corner(grid, i)
        frame[top : top + grid.panel_hw[0], left : left + grid.panel_hw[1]] = image
    return frame


def panel_corner(grid: PanelGrid, index: int) -> tuple[int, int]:
    """The (top, left) of a panel's image; a short last row leaves its last places empty."""
    row, column = divmod(index, grid.columns)
    top = grid.header_height + grid.title_height + row * (grid.title_height + grid.panel_hw[0] + grid.gap)
    return top, column * (grid.panel_hw[1] + grid.gap)


@lru_cache(maxsize=8)
def draw_background(grid: PanelGrid, titles: tuple[str, ...], header: Header) -> np.ndarray:
    """The dark ground with all words on it: uint8, read-only."""
    paper = Image.fromarray(np.array(draw_titles(grid, titles)))
    if grid.header_height:
        draw_header(paper, grid, header)
    pixels = np.asarray(paper)
    pixels.setflags(write=False)
    return pixels


@lru_cache(maxsize=8)
def draw_titles(grid: PanelGrid, titles: tuple[str, ...]) -> np.ndarray:
    """The ground with the panels' titles, which stay while the header's answer changes: uint8, read-only."""
    paper = Image.new("RGB", (grid.size_hw[1], grid.size_hw[0]), LABEL_PAPER)
    draw = ImageDraw.Draw(paper)
    face = load_font(title_font_size(grid.font_size, grid.panel_hw))
    for i, title in enumerate(titles if grid.title_height else ()):
        top, left = panel_corner(grid, i)
        place = (left + grid.panel_hw[1] // 2, top - grid.title_height // 2)
        draw.text(place, truncate_text(title, face, grid.panel_hw[1] - 4), fill=LABEL_MUTED, font=face, anchor="mm")
    return np.asarray(paper)


def draw_header(paper: Image.Image, grid: PanelGrid, header: Header) -> None:
    """Write the answer, the words and the color bar into the header, as far as there is room."""
    draw, middle, letters = ImageDraw.Draw(paper), grid.header_height // 2, grid.font_size
    margin, width = round(0.8 * letters), paper.width
    bar = bar_pixels(min(9 * letters, width // 5), max(4, round(0.42 * letters)), header.kind)
    if bar.size:
        paper.paste(Image.fromarray(bar), (width - margin - bar.shape[1], middle - bar.shape[0] // 2))
    bold = load_font(letters, bold=True)
    room = width - 4 * margin - bar.shape[1]
    answer = truncate_text(header.prediction, bold, room)
    draw.text((margin, middle), answer, fill=LABEL_INK, font=bold, anchor="lm")
    said = " · ".join(text for text in (header.caption, bar_caption(header.kind, header.end_labels)) if text)
    words = truncate_text(said, load_font(letters), max(0, room - bold.getlength(answer)))
    draw.text(
        (width - 2 * margin - bar.shape[1], middle), words, fill=LABEL_MUTED, font=load_font(letters), anchor="rm"
    )
