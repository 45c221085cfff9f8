"""The reliability diagram: how often answers of each confidence are right, and how many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.render.plots.style import new_figure, save_figure, style_axes, to_points
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN, PANEL, GAP, TOP, HISTOGRAM, BOTTOM = 110, 620, 130, 200, 190, 90


@dataclass(frozen=True)
class Reliability:
    """One diagram: `bins` (bins, 5) are from, to, images, mean confidence and accuracy of each that holds some."""

    title: str
    bins: np.ndarray
    error: float
    error_by_chance: float


def reliability_diagram(diagrams: Sequence[Reliability], count: int, path: Path | str) -> None:
    """Write a PNG of one or two diagrams beside each other, each above a histogram of the confidences."""
    width = 2 * MARGIN + PANEL * len(diagrams) + GAP * (len(diagrams) - 1) - 40
    height = TOP + PANEL + 30 + HISTOGRAM + BOTTOM
    figure = new_figure(width, height)
    figure.text(40 / width, 1 - 50 / height, "Is it right as often as it says?", fontsize=to_points(32), weight="bold",
                color=INK, va="center")  # fmt: skip
    for i, diagram in enumerate(diagrams):
        left = MARGIN + i * (PANEL + GAP)
        upper = _panel(figure, left, TOP, PANEL)
        _draw_bins(upper, diagram)
        lower = _panel(figure, left, TOP + PANEL + 30, HISTOGRAM)
        _draw_histogram(lower, diagram, count)
        for place, words, color in ((110, diagram.title, INK), (150, _error(diagram), MUTED)):
            figure.text(left / width, 1 - place / height, words, fontsize=to_points(22), color=color, va="center")
    save_figure(figure, path)


def _error(diagram: Reliability) -> str:
    error, chance = 100 * diagram.error, 100 * diagram.error_by_chance
    return f"calibration error {error:.1f} % (up to {chance:.1f} % could be chance)"


def _panel(figure: "Figure", left: int, top: int, high: int) -> "Axes":
    width, height = figure.get_size_inches() * figure.dpi
    axes = figure.add_axes((left / width, 1 - (top + high) / height, PANEL / width, high / height))
    style_axes(axes, "")
    axes.set_xlim(0, 100)
    axes.tick_params(labelsize=to_points(19))
    return axes


def _draw_bins(axes: "Axes", diagram: Reliability) -> None:
    """Bars up to the accuracy, and what confidence claims beyond it or leaves unclaimed."""
    low, high, _, confidence, accuracy = 100 * diagram.bins.T
    middle, wide = (low + high) / 2, high - low - 0.6
    known = np.minimum(accuracy, confidence)
    axes.bar(middle, known, wide, color=COOL, label="right")
    axes.bar(middle, accuracy - known, wide, known, color=COOL, alpha=0.4, label="right beyond what it says")
    axes.bar(middle, confidence - known, wide, known, color=WARM, alpha=0.5, label="says more than is right")
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="perfect")
    axes.set_ylim(0, 100)
    axes.set_xlabel("")
    axes.set_xticklabels([])
    axes.set_ylabel("right, in %", fontsize=to_points(20), color=MUTED)
    axes.legend(loc="upper left", frameon=False, fontsize=to_points(20), labelcolor=INK)


def _draw_histogram(axes: "Axes", diagram: Reliability, count: int) -> None:
    """The share of the images in each bin."""
    low, high, images = diagram.bins.T[:3]
    axes.bar(50 * (low + high), 100 * images / count, 100 * (high - low) - 0.6, color=MUTED, alpha=0.6)
    axes.set_ylim(0, max(1.0, 108 * images.max() / count))
    axes.set_xlabel("confidence in %", fontsize=to_points(20), color=MUTED)
    axes.set_ylabel(f"% of {count:,}", fontsize=to_points(20), color=MUTED)
    axes.locator_params(axis="y", nbins=3)
    axes.spines["bottom"].set_color(HAIRLINE)
