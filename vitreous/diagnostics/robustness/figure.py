"""The figures of robustness: accuracies by corruption and severity as a table, and curves over shift and rotation."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.diagnostics.robustness.corruptions import CORRUPTIONS
from vitreous.diagnostics.robustness.scores import CorruptionScores, ShiftScores, TransformScore
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, style_axes, tint, to_points
from vitreous.render.theme import COOL, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_WIDTH, CELL_WIDTH, CELL_HEIGHT, HEAD, MARGIN, GAP = 330, 128, 46, 176, 40, 14


def draw_corruptions(scores: CorruptionScores, count: int, path: Path | str) -> None:
    """Write a PNG of a table: one row per corruption; columns are clean accuracy, severities and mean."""
    severities = [str(i + 1) for i in range(len(scores.by_corruption[0].by_severity))]
    columns = ["none", *severities, "mean"]
    width = 2 * MARGIN + NAME_WIDTH + CELL_WIDTH * len(columns) + GAP
    height = HEAD + CELL_HEIGHT * len(scores.by_corruption) + MARGIN
    figure = new_figure(width, height)
    mean = scores.mean
    interval = f"95 %: {100 * mean.low:.1f} to {100 * mean.high:.1f}"
    title = f"{mean.value:.1%} correct on corrupted images ({interval}), {count:,} images"
    figure.text(MARGIN / width, 1 - 52 / height, title, fontsize=to_points(28), weight="bold", color=INK, va="center")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    lefts = [MARGIN + NAME_WIDTH + CELL_WIDTH * i + (GAP if i == len(columns) - 1 else 0) for i in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        _write(axes, left + CELL_WIDTH / 2, HEAD - 22, name, "center", MUTED)
    _write(axes, (lefts[1] + lefts[-2] + CELL_WIDTH) / 2, HEAD - 58, "severity", "center", MUTED)
    for row, one in enumerate(scores.by_corruption):
        top = HEAD + CELL_HEIGHT * row
        _write(axes, MARGIN + NAME_WIDTH - 20, top + CELL_HEIGHT / 2, one.corruption.replace("_", " "), "right", INK)
        for left, score in zip(lefts, (scores.clean, *one.by_severity, one.mean), strict=True):
            _draw_cell(axes, (left, top), score.value, score.value / max(scores.clean.value, 1e-9))
    top = HEAD
    for group, members in groupby(scores.by_corruption, key=lambda one: CORRUPTIONS[one.corruption].group):
        _write(axes, MARGIN, top + CELL_HEIGHT / 2, group, "left", MUTED)
        top += CELL_HEIGHT * len(list(members))
    save_figure(figure, path)


def _draw_cell(axes: "Axes", corner: tuple[float, float], value: float, over_clean: float) -> None:
    """Draw one accuracy in per cent, on a color for its ratio to the clean accuracy."""
    from matplotlib.patches import Rectangle

    left, top = corner
    color = tint(np.array(min(1.0, over_clean) ** 5), COOL)
    axes.add_patch(Rectangle((left + 1, top + 1), CELL_WIDTH - 2, CELL_HEIGHT - 2, facecolor=color, linewidth=0))
    ink = PAPER if over_clean > 0.82 else INK
    _write(axes, left + CELL_WIDTH / 2, top + CELL_HEIGHT / 2, f"{100 * value:.1f}", "center", ink)


def _write(axes: "Axes", x: float, y: float, text: str, align: str, color: str) -> None:
    axes.text(x, y, text, fontsize=to_points(22), ha=align, va="center", color=color)


def draw_shifts(scores: ShiftScores, count: int, path: Path | str) -> None:
    """Write a PNG of two curves side by side on one scale, with their intervals as bands."""
    panels = [("shift in pixels", _to_array(scores.shifts)), ("rotation in degrees", _to_array(scores.rotations))]
    figure = new_figure(FIGURE_WIDTH, 720)
    title = f"Accuracy on shifted and rotated images; {count:,} images, 95 % intervals"
    figure.text(0.025, 0.93, title, fontsize=to_points(30), weight="bold", color=INK, va="center")
    low = min(values[:, 1:].min() for _, values in panels)
    high = max(values[:, 1:].max() for _, values in panels)
    margin = 6 * (high - low) or 5.0
    all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    figure.subplots_adjust(left=0.06, right=0.98, top=0.78, bottom=0.12, wspace=0.14)
    for axes, (panel_title, values) in zip(all_axes, panels, strict=True):
        amount, *accuracies = values.T
        value, lower, upper = (100 * accuracy for accuracy in accuracies)
        style_axes(axes, panel_title)
        axes.set_title(panel_title, loc="left", fontsize=to_points(22), color=INK, pad=10)
        axes.set_xlabel("")
        axes.fill_between(amount, lower, upper, color=COOL, alpha=0.18, linewidth=0)
        axes.plot(amount, value, color=COOL, linewidth=1.6, marker="o", markersize=3.2)
        axes.set_ylim(max(0, 100 * low - margin), min(100.0, 100 * high + margin))
        axes.set_xticks([int(one) for one in amount if len(amount) < 10 or one % 15 == 0])
        axes.tick_params(labelsize=to_points(19))
    all_axes[0].set_ylabel("accuracy in %", fontsize=to_points(20), color=MUTED)
    save_figure(figure, path)


def _to_array(scores: Sequence[TransformScore]) -> np.ndarray:
    """Return amount, accuracy and its interval: float64 (amounts, 4)."""
    return np.array([(one.amount, one.accuracy.value, one.accuracy.low, one.accuracy.high) for one in scores])
