"""The risk-coverage curve: how often a model errs if it answers only where it is sure."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.render.plots.style import new_figure, save_figure, style_axes, to_points
from vitreous.render.theme import COOL, INK, MUTED

WIDTH, HEIGHT = 1100, 760
MOST_POINTS = 600


@dataclass(frozen=True)
class SelectiveCurve:
    """Risk over coverage, both float64 (images) in 0 to 1, the area under it, and the least area possible."""

    coverage: np.ndarray
    risk: np.ndarray
    area: float
    best_area: float


def selective_figure(curve: SelectiveCurve, path: Path | str) -> None:
    """Write a PNG of the curve between that of a perfect order and that of a random one."""
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.1, 0.14, 0.86, 0.64))
    style_axes(axes, "")
    count, error = len(curve.risk), curve.risk[-1]
    places = np.unique(np.linspace(0, count - 1, min(MOST_POINTS, count)).astype(int))
    best = np.maximum(0, 1 - (1 - error) / curve.coverage)
    percent = 100 * curve.coverage[places]
    axes.plot([0, 100], [100 * error] * 2, color=MUTED, linewidth=1, linestyle=(0, (1.2, 1.6)), label="random order")
    axes.plot(percent, 100 * best[places], color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="perfect order")
    axes.plot(percent, 100 * curve.risk[places], color=COOL, linewidth=1.8, label="by its confidence")
    axes.fill_between(percent, 100 * curve.risk[places], color=COOL, alpha=0.1)
    # A single mistake among the very surest images would else set the scale.
    steady = curve.risk[curve.coverage >= 0.02]
    axes.set_ylim(0, 112 * max(error, steady.max(), 1e-3))
    axes.set_xlim(0, 100)
    axes.set_xlabel("answered, surest first, in % of the images", fontsize=to_points(20), color=MUTED)
    axes.set_ylabel("wrong among them, in %", fontsize=to_points(20), color=MUTED)
    axes.tick_params(labelsize=to_points(19))
    # Below the line of the random order, which nearly always is the highest.
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0.87), frameon=False, fontsize=to_points(20), labelcolor=INK)
    title = "What if it answered only where it is sure?"
    figure.text(0.036, 0.93, title, fontsize=to_points(32), weight="bold", color=INK, va="center")
    words = f"area {100 * curve.area:.2f} %, at best {100 * curve.best_area:.2f} %; {count:,} images"
    figure.text(0.036, 0.855, words, fontsize=to_points(22), color=MUTED, va="center")
    save_figure(figure, path)
