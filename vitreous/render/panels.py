"""Compose the panels of a video frame: their number per row, their size, a title over each and a header over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log

import numpy as np
from PIL import Image, ImageDraw

from vitreous.render.legend import bar_caption, bar_pixels
from vitreous.render.text import MIN_FRAME_FONT_SIZE, frame_font_size, load_font, truncate_text
from vitreous.render.theme import LABEL_INK, LABEL_MUTED, LABEL_PAPER

MAX_SIZE_HW = (1600, 1920)
PREFERRED_ASPECT = 16 / 9


@dataclass(frozen=True)
class PanelHeader:
    """The line over all panels: the prediction on the left; the caption and a color bar of this kind on the right."""

    prediction: str = ""
    caption: str = ""
    kind: str = "overlay"
    end_labels: str = ""


@dataclass(frozen=True)
class PanelGrid:
    """The positions of panels of one size, all in pixels; the rest is background."""

    columns: int
    rows: int
    panel_hw: tuple[int, int]
    gap: int
    title_height: int
    header_height: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the whole frame, both even."""
        height = self.header_height + self.rows * (self.title_height + self.panel_hw[0]) + self.gap * (self.rows - 1)
        width = self.columns * self.panel_hw[1] + self.gap * (self.columns - 1)
        return height + height % 2, width + width % 2

    @property
    def font_size(self) -> int:
        """The size of the header's font in pixels."""
        return frame_font_size(self.size_hw)


@lru_cache(maxsize=64)
def panel_grid(
    image_hw: tuple[int, int], count: int, columns: int | None = None, *, titles: bool = True, header: bool = True
) -> PanelGrid:
    """Choose the grid of `count` panels of a video, close to the video's aspect ratio and at most 1920 pixels wide.

    Panels are never larger than the image.

    Args:
        image_hw: the size of the video.
        count: the number of panels.
        columns: panels per row; the best number by default.
        titles: leave room for a title over each panel.
        header: leave room for a header over all panels.
    """
    height, width = image_hw
    columns = columns or min(range(1, count + 1), key=lambda n: _imbalance(n, count, width / height))
    rows = ceil(count / columns)
    gap = max(2, round(0.004 * columns * width))
    factor = min(1.0, (MAX_SIZE_HW[1] / columns - gap) / width, (MAX_SIZE_HW[0] / rows - gap) / height)
    panel_hw = (max(2, round(factor * height)), max(2, round(factor * width)))
    font_size = frame_font_size((rows * panel_hw[0], columns * panel_hw[1]))
    title_height = round(1.9 * title_font_size(font_size, panel_hw)) if titles else 0
    return PanelGrid(columns, rows, panel_hw, gap, title_height, round(2.3 * font_size) if header else 0)


def _imbalance(columns: int, count: int, aspect: float) -> tuple[float, float]:
    """Return how far a grid is from the video's aspect ratio, counting empty cells, and then how far from 16:9."""
    rows = ceil(count / columns)
    shape = abs(log(columns / rows)) + 0.7 * (rows * columns - count) / count
    return round(shape, 6), abs(log(aspect * columns / rows / PREFERRED_ASPECT))


def title_font_size(font_size: int, panel_hw: tuple[int, int]) -> int:
    """Return the font size of a panel's title: the header's, smaller on small panels."""
    return min(font_size, max(MIN_FRAME_FONT_SIZE, round(0.05 * (panel_hw[0] * panel_hw[1]) ** 0.5)))


def compose_panels(
    grid: PanelGrid, images: Sequence[np.ndarray], titles: Sequence[str], header: PanelHeader
) -> np.ndarray:
    """Draw the panels, uint8 of the grid's size, on their background: a new uint8 (height, width, 3)."""
    frame = draw_background(grid, tuple(titles), header).copy()
    for i, image in enumerate(images):
        top, left = panel_corner(grid, i)
        frame[top : top + grid.panel_hw[0], left : left + grid.panel_hw[1]] = image
    return frame


def panel_corner(grid: PanelGrid, index: int) -> tuple[int, int]:
    """Return the (top, left) of a panel's image; the last row may be short."""
    row, column = divmod(index, grid.columns)
    top = grid.header_height + grid.title_height + row * (grid.title_height + grid.panel_hw[0] + grid.gap)
    return top, column * (grid.panel_hw[1] + grid.gap)


@lru_cache(maxsize=8)
def draw_background(grid: PanelGrid, titles: tuple[str, ...], header: PanelHeader) -> np.ndarray:
    """Draw the dark background with all texts on it: uint8, read-only."""
    paper = Image.fromarray(np.array(draw_titles(grid, titles)))
    if grid.header_height:
        draw_header(paper, grid, header)
    pixels = np.asarray(paper)
    pixels.setflags(write=False)
    return pixels


@lru_cache(maxsize=8)
def draw_titles(grid: PanelGrid, titles: tuple[str, ...]) -> np.ndarray:
    """Draw the background with the panels' titles, which stay when the prediction changes: uint8, read-only."""
    paper = Image.new("RGB", (grid.size_hw[1], grid.size_hw[0]), LABEL_PAPER)
    draw = ImageDraw.Draw(paper)
    font = load_font(title_font_size(grid.font_size, grid.panel_hw))
    for i, title in enumerate(titles if grid.title_height else ()):
        top, left = panel_corner(grid, i)
        center = (left + grid.panel_hw[1] // 2, top - grid.title_height // 2)
        draw.text(center, truncate_text(title, font, grid.panel_hw[1] - 4), fill=LABEL_MUTED, font=font, anchor="mm")
    return np.asarray(paper)


def draw_header(paper: Image.Image, grid: PanelGrid, header: PanelHeader) -> None:
    """Draw the prediction, the caption and the color bar into the header, as far as there is room."""
    draw, middle, font_size = ImageDraw.Draw(paper), grid.header_height // 2, grid.font_size
    margin, width = round(0.8 * font_size), paper.width
    bar = bar_pixels(min(9 * font_size, width // 5), max(4, round(0.42 * font_size)), header.kind)
    if bar.size:
        paper.paste(Image.fromarray(bar), (width - margin - bar.shape[1], middle - bar.shape[0] // 2))
    bold = load_font(font_size, bold=True)
    room = width - 4 * margin - bar.shape[1]
    prediction = truncate_text(header.prediction, bold, room)
    draw.text((margin, middle), prediction, fill=LABEL_INK, font=bold, anchor="lm")
    right_text = " · ".join(text for text in (header.caption, bar_caption(header.kind, header.end_labels)) if text)
    caption = truncate_text(right_text, load_font(font_size), max(0, room - bold.getlength(prediction)))
    draw.text(
        (width - 2 * margin - bar.shape[1], middle), caption, fill=LABEL_MUTED, font=load_font(font_size), anchor="rm"
    )
