"""Panels of a video frame: how many beside each other, how large, with a title over each and a header over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log

import numpy as np
from PIL import Image, ImageDraw

from vitreous.render.fonts import ellipsise, font
from vitreous.render.legend import bar_pixels, bar_words
from vitreous.render.theme import LABEL_INK, LABEL_MUTED, LABEL_PAPER

LARGEST_HW = (1600, 1920)
LETTERS_SHARE = 0.021
SMALLEST_LETTERS = 11
BALANCED = 16 / 9


@dataclass(frozen=True)
class Header:
    """The line over all panels: the answer on its left; on its right the words and a bar of this kind of colors."""

    answer: str = ""
    words: str = ""
    kind: str = "overlay"
    ends: str = ""


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
    def letters(self) -> int:
        """The size of the header's letters in pixels."""
        return max(SMALLEST_LETTERS, round(LETTERS_SHARE * (self.size_hw[0] * self.size_hw[1]) ** 0.5))


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
    factor = min(1.0, (LARGEST_HW[1] / columns - gap) / width, (LARGEST_HW[0] / rows - gap) / height)
    panel_hw = (max(2, round(factor * height)), max(2, round(factor * width)))
    letters = max(SMALLEST_LETTERS, round(LETTERS_SHARE * (rows * panel_hw[0] * columns * panel_hw[1]) ** 0.5))
    title_height = round(1.9 * letters_of_title(letters, panel_hw)) if titles else 0
    return PanelGrid(columns, rows, panel_hw, gap, title_height, round(2.3 * letters) if header else 0)


def _imbalance(columns: int, count: int, aspect: float) -> tuple[float, float]:
    """How far the whole is from the clip's aspect, empty places counted too; of equals, the nearer to 16:9 is first."""
    rows = ceil(count / columns)
    shape = abs(log(columns / rows)) + 0.7 * (rows * columns - count) / count
    return round(shape, 6), abs(log(aspect * columns / rows / BALANCED))


def letters_of_title(letters: int, panel_hw: tuple[int, int]) -> int:
    """The size of a panel title's letters: the header's, smaller where panels are."""
    return min(letters, max(SMALLEST_LETTERS, round(0.05 * (panel_hw[0] * panel_hw[1]) ** 0.5)))


def composed(grid: PanelGrid, images: Sequence[np.ndarray], titles: Sequence[str], header: Header) -> np.ndarray:
    """The panels, uint8 of the grid's size, on their ground: a new uint8 (height, width, 3)."""
    frame = ground(grid, tuple(titles), header).copy()
    for i, image in enumerate(images):
        top, left = corner(grid, i)
        frame[top : top + grid.panel_hw[0], left : left + grid.panel_hw[1]] = image
    return frame


def corner(grid: PanelGrid, index: int) -> tuple[int, int]:
    """The (top, left) of a panel's image; a short last row leaves its last places empty."""
    row, column = divmod(index, grid.columns)
    top = grid.header_height + grid.title_height + row * (grid.title_height + grid.panel_hw[0] + grid.gap)
    return top, column * (grid.panel_hw[1] + grid.gap)


@lru_cache(maxsize=8)
def ground(grid: PanelGrid, titles: tuple[str, ...], header: Header) -> np.ndarray:
    """The dark ground with all words on it: uint8, read-only."""
    paper = Image.fromarray(np.array(titled(grid, titles)))
    if grid.header_height:
        write_header(paper, grid, header)
    pixels = np.asarray(paper)
    pixels.setflags(write=False)
    return pixels


@lru_cache(maxsize=8)
def titled(grid: PanelGrid, titles: tuple[str, ...]) -> np.ndarray:
    """The ground with the panels' titles, which stay while the header's answer changes: uint8, read-only."""
    paper = Image.new("RGB", (grid.size_hw[1], grid.size_hw[0]), LABEL_PAPER)
    draw = ImageDraw.Draw(paper)
    face = font(letters_of_title(grid.letters, grid.panel_hw))
    for i, title in enumerate(titles if grid.title_height else ()):
        top, left = corner(grid, i)
        place = (left + grid.panel_hw[1] // 2, top - grid.title_height // 2)
        draw.text(place, ellipsise(title, face, grid.panel_hw[1] - 4), fill=LABEL_MUTED, font=face, anchor="mm")
    return np.asarray(paper)


def write_header(paper: Image.Image, grid: PanelGrid, header: Header) -> None:
    """Write the answer, the words and the color bar into the header, as far as there is room."""
    draw, middle, letters = ImageDraw.Draw(paper), grid.header_height // 2, grid.letters
    margin, width = round(0.8 * letters), paper.width
    bar = bar_pixels(min(9 * letters, width // 5), max(4, round(0.42 * letters)), header.kind)
    if bar.size:
        paper.paste(Image.fromarray(bar), (width - margin - bar.shape[1], middle - bar.shape[0] // 2))
    bold = font(letters, bold=True)
    room = width - 4 * margin - bar.shape[1]
    answer = ellipsise(header.answer, bold, room)
    draw.text((margin, middle), answer, fill=LABEL_INK, font=bold, anchor="lm")
    said = " · ".join(text for text in (header.words, bar_words(header.kind, header.ends)) if text)
    words = ellipsise(said, font(letters), max(0, room - bold.getlength(answer)))
    draw.text((width - 2 * margin - bar.shape[1], middle), words, fill=LABEL_MUTED, font=font(letters), anchor="rm")
