"""Two runs in one image: their accuracy during training, and how they differ class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.render.fonts import load_font, truncate_text, wrap_text
from vitreous.render.plots.style import (
    FIGURE_WIDTH,
    draw_placeholder,
    new_figure,
    point_marker,
    save_figure,
    style_axes,
    to_points,
)
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT, NAMES_PIXELS, TITLE_PIXELS = 860, 190, 27
CLASSES_HW = (0.66, 0.46 - NAMES_PIXELS / FIGURE_WIDTH)
"""The plot of the classes, as shares of the image's height and width."""
SIDE_PIXELS = 56
MOST_CLASSES = 20


@dataclass(frozen=True)
class History:
    """A run's accuracy on its validation images (0 to 1) over its epochs, both float64 (validations)."""

    name: str
    epochs: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class DifferenceDot:
    """How much more of a class the second run tells right than the first (−1 to 1), with its interval."""

    name: str
    value: float
    low: float
    high: float
    is_sure: bool


def comparison_figure(
    histories: Sequence[History], classes: Sequence[DifferenceDot], title: str, path: Path | str
) -> None:
    """Write a PNG: curves of both runs on one plot, and a dot with its interval for each class, or for the 20 furthest.

    The first run is blue, the second orange: so are their curves, their halves of the classes' plot, and the classes
    where the difference is sure.
    """
    figure = new_figure(FIGURE_WIDTH, HEIGHT)
    lines = wrap_text(title, load_font(TITLE_PIXELS, bold=True), FIGURE_WIDTH - 80, 2)
    figure.text(40 / FIGURE_WIDTH, 1 - 34 / HEIGHT, "\n".join(lines), fontsize=to_points(TITLE_PIXELS), weight="bold",
                color=INK, va="top", parse_math=False)  # fmt: skip
    left = figure.add_axes((0.055, 0.11, 0.42, 0.66))
    right = figure.add_axes((0.5 + NAMES_PIXELS / FIGURE_WIDTH, 0.11, CLASSES_HW[1], CLASSES_HW[0]))
    _draw_histories(left, histories)
    _draw_classes(right, classes, [history.name for history in histories])
    for axes in (left, right):
        axes.tick_params(labelsize=to_points(19))
    save_figure(figure, path)


def _draw_histories(axes: "Axes", histories: Sequence[History]) -> None:
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
    axes.legend(loc="lower right", frameon=False, fontsize=to_points(20), labelcolor=INK)


def _draw_classes(axes: "Axes", classes: Sequence[DifferenceDot], names: Sequence[str]) -> None:
    furthest = sorted(classes, key=lambda one: -abs(one.value))[:MOST_CLASSES]
    shown = sorted(furthest, key=lambda one: one.value)
    style_axes(axes, "")
    what = "which tells more right, in points"
    if len(shown) < len(classes):
        what = f"more right, in points: the {len(shown)} furthest of {len(classes)}"
    axes.set_title(what, loc="left", fontsize=to_points(22), color=INK, pad=10)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=HAIRLINE, linewidth=0.6)
    for place, one in enumerate(shown):
        color = MUTED if not one.is_sure else WARM if one.value > 0 else COOL
        axes.plot([100 * one.low, 100 * one.high], [place, place], color=color, linewidth=1.4)
        axes.plot(100 * one.value, place, "o", color=color, markersize=4.5)
    axes.set_yticks(range(len(shown)), [truncate_text(one.name, load_font(20), NAMES_PIXELS - 20) for one in shown],
                    parse_math=False)  # fmt: skip
    axes.set_ylim(-0.6, len(shown) - 0.4)
    _draw_sides(axes, names, 106 * max(max(-one.low, one.high) for one in shown))
    axes.set_xlabel("colored where the interval leaves out 0", fontsize=to_points(20), color=MUTED)


def _draw_sides(axes: "Axes", names: Sequence[str], reach: float) -> None:
    """Give each run a half of the plot, as wide as the other's, in its color and under its name."""
    reach = reach or 1.0
    head = SIDE_PIXELS / (CLASSES_HW[0] * HEIGHT)  # of the height
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (1 - head))
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.axvline(0, color=INK, linewidth=0.8)
    for side, name, color in ((-1, names[0], COOL), (1, names[1], WARM)):
        axes.axvspan(0, side * reach, color=color, alpha=0.06, linewidth=0, zorder=0)
        words = truncate_text(name, load_font(20, bold=True), int(CLASSES_HW[1] * FIGURE_WIDTH / 2) - 50)
        axes.text(0.5 + side / 4, 1 - head / 2, f"← {words}" if side < 0 else f"{words} →", transform=axes.transAxes,
                  ha="center", va="center", fontsize=to_points(20), weight="bold", color=color,
                  parse_math=False)  # fmt: skip
