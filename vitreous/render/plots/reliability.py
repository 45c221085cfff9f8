"""The reliability diagram: accuracy over confidence, above a histogram of the confidences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.render.plots.style import add_legend, new_figure, save_figure, style_axes, to_points
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN, PANEL, GAP, TOP, HISTOGRAM, BOTTOM = 110, 620, 130, 200, 190, 90


@dataclass(frozen=True)
class Reliability:
    """The content of one diagram."""

    title: str
    bins: np.ndarray
    """(bins, 5): lower end, upper end, images, mean confidence and accuracy of each non-empty bin."""
    ece: float
    ece_by_chance: float


def reliability_diagram(diagrams: Sequence[Reliability], count: int, path: Path | str) -> None:
    """Write a PNG of one or two diagrams side by side; `count` is the number of images."""
    width = 2 * MARGIN + PANEL * len(diagrams) + GAP * (len(diagrams) - 1) - 40
    height = TOP + PANEL + 30 + HISTOGRAM + BOTTOM
    figure = new_figure(width, height)
    figure.text(40 / width, 1 - 50 / height, "Does confidence match accuracy?", fontsize=to_points(32), weight="bold",
                color=INK, va="center")  # fmt: skip
    for i, diagram in enumerate(diagrams):
        left = MARGIN + i * (PANEL + GAP)
        upper = _panel(figure, left, TOP, PANEL)
        _draw_bins(upper, diagram)
        lower = _panel(figure, left, TOP + PANEL + 30, HISTOGRAM)
        _draw_histogram(lower, diagram, count)
        for offset, text, color in ((110, diagram.title, INK), (150, _caption(diagram), MUTED)):
            figure.text(left / width, 1 - offset / height, text, fontsize=to_points(22), color=color, va="center")
    save_figure(figure, path)


def _caption(diagram: Reliability) -> str:
    ece, chance = 100 * diagram.ece, 100 * diagram.ece_by_chance
    return f"expected calibration error {ece:.1f} % (up to {chance:.1f} % by chance)"


def _panel(figure: "Figure", left: int, top: int, panel_height: int) -> "Axes":
    width, height = figure.get_size_inches() * figure.dpi
    axes = figure.add_axes((left / width, 1 - (top + panel_height) / height, PANEL / width, panel_height / height))
    style_axes(axes, "")
    axes.set_xlim(0, 100)
    axes.tick_params(labelsize=to_points(19))
    return axes


def _draw_bins(axes: "Axes", diagram: Reliability) -> None:
    """Draw bars up to the accuracy, and the gap between accuracy and confidence in a second color."""
    low, high, _, confidence, accuracy = 100 * diagram.bins.T
    middle, wide = (low + high) / 2, high - low - 0.6
    common = np.minimum(accuracy, confidence)
    axes.bar(middle, common, wide, color=COOL, label="accuracy")
    axes.bar(middle, accuracy - common, wide, common, color=COOL, alpha=0.4, label="underconfident")
    axes.bar(middle, confidence - common, wide, common, color=WARM, alpha=0.5, label="overconfident")
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="perfect calibration")
    axes.set_ylim(0, 100)
    axes.set_xlabel("")
    axes.set_xticklabels([])
    axes.set_ylabel("accuracy in %", fontsize=to_points(20), color=MUTED)
    add_legend(axes, "upper left", font_size=to_points(20))


def _draw_histogram(axes: "Axes", diagram: Reliability, count: int) -> None:
    """Draw the fraction of the images in each bin."""
    low, high, images = diagram.bins.T[:3]
    axes.bar(50 * (low + high), 100 * images / count, 100 * (high - low) - 0.6, color=MUTED, alpha=0.6)
    axes.set_ylim(0, max(1.0, 108 * images.max() / count))
    axes.set_xlabel("confidence in %", fontsize=to_points(20), color=MUTED)
    axes.set_ylabel(f"% of {count:,}", fontsize=to_points(20), color=MUTED)
    axes.locator_params(axis="y", nbins=3)
    axes.spines["bottom"].set_color(HAIRLINE)
