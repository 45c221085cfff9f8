"""The plot of a confusion matrix, as a PNG file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import InputError
from vitreous.render.plots.style import DPI, new_figure, save_figure, tint, to_points
from vitreous.render.text import load_font, truncate_text
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, PAPER, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MAX_CLASSES_WITH_PERCENT, MAX_CLASSES_WITH_COUNTS = 20, 10
MATRIX_SIDE, MAX_CELL, MAX_NAME = 1280, 420, 230
MIN_WIDTH, TITLE_HEIGHT = 1100, 160
"""Sizes in pixels."""


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], path: Path | str) -> None:
    """Write a PNG of a confusion matrix: counts (classes, classes), rows are true classes and columns predicted ones.

    Colors show the fraction of the row on a square-root scale, blue for correct and orange for wrong predictions. Up to
    20 classes, the cells also show it in percent; up to 10, the counts as well.

    Raises:
        InputError: the matrix is not square, has a negative count, or does not fit the names.
    """
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape != (len(class_names),) * 2 or not counts.size or counts.min() < 0:
        raise InputError(
            f"a matrix of shape {counts.shape} for {len(class_names)} class names can't be drawn: "
            "give counts, none negative, with one row and one column for each name"
        )
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(MAX_CELL, MATRIX_SIDE / len(counts))
    font_size = int(min(24, max(10, 0.78 * cell)))
    names = [truncate_text(name, load_font(font_size), MAX_NAME) for name in class_names]
    longest = max(load_font(font_size).getlength(name) for name in names)
    upright = longest <= 0.92 * cell
    side, left, bottom = (
        round(cell * len(counts)),
        round(longest) + 110,
        (font_size if upright else round(longest)) + 100,
    )
    width, height = max(MIN_WIDTH, left + side + 60), bottom + side + TITLE_HEIGHT
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.imshow(confusion_colors(fractions), interpolation="nearest", aspect="auto")
    label_classes(axes, names, font_size, 0 if upright else 90)
    if len(counts) <= MAX_CLASSES_WITH_PERCENT:
        annotate_cells(axes, counts, fractions, cell)
    draw_title(figure, counts)
    save_figure(figure, path)


def confusion_colors(fractions: np.ndarray) -> np.ndarray:
    """Color fractions white to blue on the diagonal and white to orange elsewhere: float (classes, classes, 3), 0 to
    1."""
    diagonal = np.eye(len(fractions), dtype=bool)[..., None]
    return np.where(diagonal, tint(fractions, COOL), tint(fractions, WARM))


def label_classes(axes: "Axes", names: Sequence[str], font_size: int, rotation: int) -> None:
    """Write the names along both sides, the titles of the sides, and thin white lines between the cells."""
    positions, size = range(len(names)), to_points(font_size)
    axes.set_xticks(positions, names, rotation=rotation, fontsize=size, color=INK, parse_math=False)
    axes.set_yticks(positions, names, fontsize=size, color=INK, parse_math=False)
    axes.tick_params(length=0, pad=4)
    axes.set_xlabel("predicted label", fontsize=to_points(24), color=MUTED, labelpad=8)
    axes.set_ylabel("true label", fontsize=to_points(24), color=MUTED, labelpad=8)
    edges = np.arange(1, len(names)) - 0.5
    thickness = min(1.0, 12 / len(names))
    axes.hlines(edges, -0.5, len(names) - 0.5, color=PAPER, linewidth=thickness)
    axes.vlines(edges, -0.5, len(names) - 0.5, color=PAPER, linewidth=thickness)
    for spine in axes.spines.values():
        spine.set_color(HAIRLINE)


def annotate_cells(axes: "Axes", counts: np.ndarray, fractions: np.ndarray, cell_pixels: float) -> None:
    """Write the percentage of the row into every cell that is not empty, and below it the count if there is space."""
    with_counts = len(counts) <= MAX_CLASSES_WITH_COUNTS
    size = min(40, cell_pixels * (0.22 if with_counts else 0.32))
    step = size / cell_pixels if with_counts else 0
    for row, column in np.argwhere(counts > 0):
        fraction, color = fractions[row, column], PAPER if fractions[row, column] > 0.35 else INK
        text, position = format_percent(100 * fraction, decimals=1 if with_counts else 0), (column, row - 0.5 * step)
        axes.text(*position, text, ha="center", va="center", color=color, fontsize=to_points(size))
        if with_counts:
            position, text = (column, row + 0.75 * step), f"{counts[row, column]:,}"
            axes.text(
                *position, text, ha="center", va="center", color=color, fontsize=to_points(0.66 * size), alpha=0.75
            )


def format_percent(percent: float, decimals: int) -> str:
    """Round a positive number, but not down to 0.

    >>> format_percent(87.26, 1), format_percent(0.2, 0)
    ('87.3', '<1')
    """
    text = f"{percent:.{decimals}f}"
    return text if float(text) else f"<{10**-decimals:g}"


def draw_title(figure: "Figure", counts: np.ndarray) -> None:
    """Write the accuracy above the matrix and, to its right, the legend of the colors."""
    width, height = figure.get_size_inches() * DPI
    total, top = int(counts.sum()), 1 - 62 / height
    accuracy = f"{100 * np.trace(counts) / total:.1f} % correct" if total else "nothing measured yet"
    figure.text(40 / width, top, accuracy, fontsize=to_points(34), weight="bold", color=INK, va="center")
    figure.text(40 / width, 1 - 108 / height, f"{total:,} images", fontsize=to_points(22), color=MUTED, va="center")
    ramp = np.tile(np.linspace(0, 1, 256), (2, 1))
    for i, (name, color) in enumerate((("correct", COOL), ("wrong", WARM))):
        bar = figure.add_axes(((width - 320) / width, 1 - (66 + 36 * i) / height, 260 / width, 14 / height))
        bar.imshow(tint(ramp, color), aspect="auto")
        bar.set_axis_off()
        position, text = (1 - 334 / width, 1 - (59 + 36 * i) / height), f"{name}, 0 to 100 % of the row"
        figure.text(*position, text, color=MUTED, va="center", ha="right", fontsize=to_points(20))
