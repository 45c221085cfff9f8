"""The risk-coverage curve: the error rate if a model answers only its most confident images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.render.plots.style import add_legend, new_figure, save_figure, style_axes, to_points
from vitreous.render.theme import COOL, INK, MUTED

WIDTH, HEIGHT = 1100, 760
MAX_POINTS = 600


@dataclass(frozen=True)
class RiskCoverageCurve:
    """Risk and coverage, both float64 (images) between 0 and 1, the area under the curve, and the optimal area."""

    coverage: np.ndarray
    risk: np.ndarray
    aurc: float
    aurc_optimal: float


def risk_coverage_figure(curve: RiskCoverageCurve, path: Path | str) -> None:
    """Write a PNG of the curve, between those of a perfect and of a random ranking."""
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.1, 0.14, 0.86, 0.64))
    style_axes(axes, "")
    count, error = len(curve.risk), curve.risk[-1]
    indexes = np.unique(np.linspace(0, count - 1, min(MAX_POINTS, count)).astype(int))
    best = np.maximum(0, 1 - (1 - error) / curve.coverage)
    percent = 100 * curve.coverage[indexes]
    axes.plot([0, 100], [100 * error] * 2, color=MUTED, linewidth=1, linestyle=(0, (1.2, 1.6)), label="random ranking")
    axes.plot(percent, 100 * best[indexes], color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="perfect ranking")
    axes.plot(percent, 100 * curve.risk[indexes], color=COOL, linewidth=1.8, label="ranked by confidence")
    axes.fill_between(percent, 100 * curve.risk[indexes], color=COOL, alpha=0.1)
    # Without this, a single mistake among the most confident images would set the scale.
    beyond_first = curve.risk[curve.coverage >= 0.02]
    axes.set_ylim(0, 112 * max(error, beyond_first.max(), 1e-3))
    axes.set_xlim(0, 100)
    axes.set_xlabel("coverage: % of the images, most confident first", fontsize=to_points(20), color=MUTED)
    axes.set_ylabel("error rate in %", fontsize=to_points(20), color=MUTED)
    axes.tick_params(labelsize=to_points(19))
    # Below the line of the random ranking, which is nearly always the highest.
    add_legend(axes, "upper left", font_size=to_points(20), anchor=(0, 0.87))
    title = "How accurate is the model where it is confident?"
    figure.text(0.036, 0.93, title, fontsize=to_points(32), weight="bold", color=INK, va="center")
    caption = (
        f"area under the curve {100 * curve.aurc:.2f} %, optimal {100 * curve.aurc_optimal:.2f} % · {count:,} images"
    )
    figure.text(0.036, 0.855, caption, fontsize=to_points(22), color=MUTED, va="center")
    save_figure(figure, path)
