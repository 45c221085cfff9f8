"""The figure of a probe: accuracy by the number of training images, and the accuracy of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.evaluation.intervals import Estimate
from vitreous.render.plots.style import FIGURE_WIDTH, add_legend, new_figure, save_figure, style_axes, to_points
from vitreous.render.text import load_font, truncate_text
from vitreous.render.theme import COOL, HAIRLINE, HUES, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 860
NAMES_WIDTH = 190
MAX_CLASSES = 20
"""Of more classes, those with the lowest accuracy are shown."""
METHOD_NAMES = {"knn": "k nearest neighbors", "logistic": "logistic regression"}


@dataclass(frozen=True)
class ProbeCurve:
    """The accuracy of a method by training images per class, the last point with all of them."""

    method: str
    points: tuple[tuple[float, Estimate], ...]


def probe_figure(curves: Sequence[ProbeCurve], classes: Mapping[str, Estimate], caption: str, path: Path | str) -> None:
    """Write a PNG with a panel of the curves and one of the classes."""
    figure = new_figure(FIGURE_WIDTH, HEIGHT)
    _draw_curves(figure.add_axes((0.07, 0.12, 0.42, 0.64)), curves)
    _draw_classes(figure.add_axes((0.51 + NAMES_WIDTH / FIGURE_WIDTH, 0.12, 0.46 - NAMES_WIDTH / FIGURE_WIDTH, 0.64)),
                  classes)  # fmt: skip
    figure.text(0.025, 0.93, "What do frozen features know of these classes?", fontsize=to_points(32), weight="bold",
                color=INK, va="center")  # fmt: skip
    shown = truncate_text(caption, load_font(22), 0.95 * FIGURE_WIDTH)
    figure.text(0.025, 0.87, shown, fontsize=to_points(20), color=MUTED, va="center")
    save_figure(figure, path)


def _draw_curves(axes: "Axes", curves: Sequence[ProbeCurve]) -> None:
    """Draw a line with intervals for each method over the training images per class, on a logarithmic axis."""
    style_axes(axes, "")
    names = [f"{images:,.0f}" for images, _ in curves[0].points]
    names[-1] = f"all ({names[-1]})"
    low, high = 100.0, 0.0
    for number, curve in enumerate(curves):
        at = np.arange(len(curve.points)) + 0.06 * (number - (len(curves) - 1) / 2)
        value, lower, upper = 100 * np.array([(one.value, one.low, one.high) for _, one in curve.points]).T
        color, name = HUES[number % len(HUES)], METHOD_NAMES.get(curve.method, curve.method)
        axes.errorbar(at, value, [value - lower, upper - value], color=color, linewidth=1.6, marker="o", markersize=4,
                      elinewidth=1, capsize=0, label=f"{name}, {value[-1]:.1f} %")  # fmt: skip
        low, high = min(low, lower.min()), max(high, upper.max())
    margin = max(1.0, 0.08 * (high - low))
    axes.set_ylim(max(0, low - margin), min(100.5, high + margin))
    axes.set_xlim(-0.4, len(names) - 0.6)
    axes.set_xticks(np.arange(len(names)), names)
    axes.tick_params(labelsize=to_points(19))
    axes.set_xlabel("training images per class", fontsize=to_points(20), color=MUTED)
    axes.set_title("accuracy on test images, in %", loc="left", fontsize=to_points(22), color=INK, pad=10)
    add_legend(axes, "lower right", font_size=to_points(20))


def _draw_classes(axes: "Axes", classes: Mapping[str, Estimate]) -> None:
    """Draw the accuracy of each class with its interval, the highest on top."""
    style_axes(axes, "")
    ordered = sorted(classes.items(), key=lambda pair: pair[1].value)
    shown, rows = ordered[:MAX_CLASSES], np.arange(min(MAX_CLASSES, len(ordered)))
    value, lower, upper = 100 * np.array([(one.value, one.low, one.high) for _, one in shown]).T
    axes.hlines(rows, lower, upper, color=COOL, linewidth=2.2, alpha=0.35)
    axes.plot(value, rows, "o", color=COOL, markersize=5)
    font = load_font(20)
    axes.set_yticks(rows, [truncate_text(name, font, NAMES_WIDTH) for name, _ in shown])
    for row, number, right in zip(rows, value, upper, strict=True):
        axes.annotate(f"{number:.1f}", (max(number, right), row), (6, 0), textcoords="offset points", va="center",
                      fontsize=to_points(18), color=MUTED, annotation_clip=False)  # fmt: skip
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(max(0, lower.min() - 3), 100)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=HAIRLINE, linewidth=0.6)
    axes.tick_params(labelsize=to_points(19))
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xlabel("accuracy in %, with 95 % intervals", fontsize=to_points(20), color=MUTED)
    which = f"the {len(shown)} classes with the lowest accuracy" if len(ordered) > len(shown) else "each class"
    axes.set_title(f"{which}, all training images", loc="left", fontsize=to_points(22), color=INK, pad=10)
