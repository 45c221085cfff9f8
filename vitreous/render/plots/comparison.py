"""The plot of a comparison of two runs: their accuracy during training, and their difference in each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.render.plots.style import (
    FIGURE_WIDTH,
    add_legend,
    draw_placeholder,
    new_figure,
    point_marker,
    save_figure,
    style_axes,
    to_points,
)
from vitreous.render.text import load_font, truncate_text, wrap_text
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT, NAMES_WIDTH, TITLE_SIZE = 860, 190, 27
CLASSES_HW = (0.66, 0.46 - NAMES_WIDTH / FIGURE_WIDTH)
"""Height and width of the plot of the classes, as fractions of the figure's."""
HEADER_HEIGHT = 56
MAX_CLASSES = 20


@dataclass(frozen=True)
class AccuracyHistory:
    """The validation accuracy of a run (0 to 1) over its epochs, float64 (validations) each."""

    name: str
    epochs: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class ClassDifference:
    """The accuracy of the second run on a class minus that of the first (−1 to 1), with its interval."""

    name: str
    value: float
    low: float
    high: float
    is_significant: bool


def comparison_figure(
    histories: Sequence[AccuracyHistory], classes: Sequence[ClassDifference], title: str, path: Path | str
) -> None:
    """Write a PNG: the curves of both runs, and the difference of each class with its interval.

    Of more than 20 classes, those with the largest differences are shown. The first run is blue and the second orange:
    their curves, their halves of the classes' plot, and the classes with a significant difference.
    """
    figure = new_figure(FIGURE_WIDTH, HEIGHT)
    lines = wrap_text(title, load_font(TITLE_SIZE, bold=True), FIGURE_WIDTH - 80, 2)
    figure.text(40 / FIGURE_WIDTH, 1 - 34 / HEIGHT, "\n".join(lines), fontsize=to_points(TITLE_SIZE), weight="bold",
                color=INK, va="top", parse_math=False)  # fmt: skip
    left = figure.add_axes((0.055, 0.11, 0.42, 0.66))
    right = figure.add_axes((0.5 + NAMES_WIDTH / FIGURE_WIDTH, 0.11, CLASSES_HW[1], CLASSES_HW[0]))
    _draw_histories(left, histories)
    _draw_classes(right, classes, [history.name for history in histories])
    for axes in (left, right):
        axes.tick_params(labelsize=to_points(19))
    save_figure(figure, path)


def _draw_histories(axes: "Axes", histories: Sequence[AccuracyHistory]) -> None:
    style_axes(axes, "")
    axes.set_title("accuracy on validation images, in %", loc="left", fontsize=to_points(22), color=INK, pad=10)
    if not any(history.epochs.size for history in histories):
        draw_placeholder(axes)
        return
    for history, color in zip(histories, (COOL, WARM), strict=True):
        curve = (history.epochs, 100 * history.accuracy)
        name = truncate_text(history.name, load_font(20), 360)
        axes.plot(*curve, color=color, linewidth=1.6, marker=point_marker(curve), markersize=3, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel("epoch", fontsize=to_points(20), color=MUTED)
    add_legend(axes, "lower right", font_size=to_points(20))


def _draw_classes(axes: "Axes", classes: Sequence[ClassDifference], names: Sequence[str]) -> None:
    largest = sorted(classes, key=lambda one: -abs(one.value))[:MAX_CLASSES]
    shown = sorted(largest, key=lambda one: one.value)
    style_axes(axes, "")
    heading = "difference in accuracy, in points"
    if len(shown) < len(classes):
        heading = f"difference in accuracy, in points: the {len(shown)} largest of {len(classes)}"
    axes.set_title(heading, loc="left", fontsize=to_points(22), color=INK, pad=10)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=HAIRLINE, linewidth=0.6)
    for position, one in enumerate(shown):
        color = MUTED if not one.is_significant else WARM if one.value > 0 else COOL
        axes.plot([100 * one.low, 100 * one.high], [position, position], color=color, linewidth=1.4)
        axes.plot(100 * one.value, position, "o", color=color, markersize=4.5)
    axes.set_yticks(range(len(shown)), [truncate_text(one.name, load_font(20), NAMES_WIDTH - 20) for one in shown],
                    parse_math=False)  # fmt: skip
    axes.set_ylim(-0.6, len(shown) - 0.4)
    _draw_sides(axes, names, 106 * max(max(-one.low, one.high) for one in shown))
    axes.set_xlabel("colored where the interval excludes 0", fontsize=to_points(20), color=MUTED)


def _draw_sides(axes: "Axes", names: Sequence[str], limit: float) -> None:
    """Give each run one half of the plot, in its color and with its name above."""
    limit = limit or 1.0
    header = HEADER_HEIGHT / (CLASSES_HW[0] * HEIGHT)  # as a fraction of the height
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (1 - header))
    axes.set_xlim(-limit, limit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.axvline(0, color=INK, linewidth=0.8)
    for side, name, color in ((-1, names[0], COOL), (1, names[1], WARM)):
        axes.axvspan(0, side * limit, color=color, alpha=0.06, linewidth=0, zorder=0)
        label = truncate_text(name, load_font(20, bold=True), int(CLASSES_HW[1] * FIGURE_WIDTH / 2) - 50)
        axes.text(0.5 + side / 4, 1 - header / 2, f"← {label}" if side < 0 else f"{label} →", transform=axes.transAxes,
                  ha="center", va="center", fontsize=to_points(20), weight="bold", color=color,
                  parse_math=False)  # fmt: skip
