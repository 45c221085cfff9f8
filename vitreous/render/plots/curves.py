"""The curves of a training run, as a PNG file: loss and accuracy over the epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.render.plots.style import (
    FIGURE_WIDTH,
    add_legend,
    draw_placeholder,
    new_figure,
    point_marker,
    save_figure,
    style_axes,
)
from vitreous.render.theme import COOL, INK, MUTED, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_MEDIANS = 400


@dataclass(frozen=True)
class MetricAxis:
    """What is drawn beside the loss.

    Attributes:
        name: in the lines of metrics.jsonl.
        title: of the axis.
        is_fraction: whether it is between 0 and 1, and drawn in per cent.
    """

    name: str = "top1"
    title: str = "accuracy"
    is_fraction: bool = True

    @property
    def unit(self) -> float:
        """The factor from a value to what is drawn."""
        return 100.0 if self.is_fraction else 1.0


ACCURACY = MetricAxis()


@dataclass(frozen=True)
class ReferenceBand:
    """The validation scores of other runs, mean and standard deviation over epochs, each (points,)."""

    epochs: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    label: str


def training_curves(
    metrics: Sequence[Mapping[str, Any]],
    path: Path | str,
    reference: ReferenceBand | None = None,
    metric: MetricAxis = ACCURACY,
) -> None:
    """Write a PNG of the loss and a metric over the epochs.

    Args:
        metrics: the lines of metrics.jsonl, if there are any yet. The `split` of a line says whether its `loss` and
            its metric are of "train" or "validation" images. Values that are not finite leave a gap.
        path: of the PNG file.
        reference: drawn as a band behind the metric.
        metric: what is drawn beside the loss.
    """
    figure = new_figure(FIGURE_WIDTH, 700)
    loss, score = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.97, top=0.86, bottom=0.15, wspace=0.2)
    plot_loss(loss, series(metrics, "train", "loss"), series(metrics, "validation", "loss"))
    training, validation = (series(metrics, split, metric.name) for split in ("train", "validation"))
    plot_metric(score, training, validation, reference, metric)
    save_figure(figure, path)


def series(metrics: Sequence[Mapping[str, Any]], split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs and values of a split's lines that have `key`, float64 (lines,) each; NaN for values that aren't
    finite."""
    pairs = [(line["epoch"], line[key]) for line in metrics if line.get("split") == split and key in line]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table[~np.isfinite(table)] = np.nan
    return table[:, 0], table[:, 1]


def running_median(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute running medians over a fiftieth of the finite values, at up to 400 positions: epochs and medians."""
    known = np.isfinite(epochs) & np.isfinite(values)
    epochs, values = epochs[known], values[known]
    half = values.size // 100
    positions = np.unique(np.linspace(0, max(0, values.size - 1), min(MAX_MEDIANS, values.size)).astype(int))
    medians = [np.median(values[max(0, position - half) : position + half + 1]) for position in positions]
    return epochs[positions], np.array(medians)


def plot_loss(axes: "Axes", training: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]) -> None:
    """Draw the loss of every step in pale color, its running median, and the validation loss."""
    style_axes(axes, "loss")
    if not (is_measured(training) or is_measured(validation)):
        draw_placeholder(axes)
        return
    if is_measured(training):
        axes.plot(*training, color=COOL, linewidth=0.5, alpha=0.28)
        medians = running_median(*training)
        axes.plot(
            *medians,
            color=COOL,
            linewidth=1.5,
            label="training (running median)",
            marker=point_marker(medians),
            markersize=3,
        )
    if is_measured(validation):
        axes.plot(
            *validation, color=WARM, linewidth=1.5, label="validation", marker=point_marker(validation), markersize=3
        )
    # Some steps are outliers, so the range covers 99 % of them. It covers all validations, which are few.
    ends = [np.nanpercentile(training[1], [0.5, 99.5])] if is_measured(training) else []
    low, high = min_max([*ends, validation[1]])
    margin = 0.06 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(0, 1.04 * min_max([training[0], validation[0]])[1] or 1.0)
    add_legend(axes, "above")


def is_measured(points: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether any of the points is finite."""
    return bool(np.isfinite(points[0] + points[1]).any())


def min_max(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the smallest and the largest finite value in some arrays, which hold at least one."""
    values = np.concatenate(arrays)
    return float(np.nanmin(values)), float(np.nanmax(values))


def plot_metric(
    axes: "Axes",
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    reference: ReferenceBand | None = None,
    metric: MetricAxis = ACCURACY,
) -> None:
    """Draw a metric, in percent if it is a fraction: of the augmented training images in pale color, of the validation
    images with a label."""
    style_axes(axes, f"{metric.title} in %" if metric.is_fraction else metric.title)
    unit = metric.unit
    if not (is_measured(training) or is_measured(validation)):
        draw_placeholder(axes)
        return
    epochs, medians = running_median(*training)
    ends = plot_band(axes, reference, unit) if reference else (np.zeros(0), np.zeros(0))
    axes.plot(epochs, unit * medians, color=COOL, linewidth=1.2, alpha=0.6, label="training (augmented)")
    marker = point_marker(validation)
    axes.plot(
        validation[0], unit * validation[1], color=WARM, linewidth=1.5, marker=marker, markersize=3, label="validation"
    )
    low, high = min_max([unit * medians, unit * validation[1], ends[1]])
    margin = max(0.04 * unit if metric.is_fraction else 0.05 * max(abs(low), abs(high)), 0.08 * (high - low)) or 0.5
    limits = (0.0, unit) if metric.is_fraction else (-np.inf, np.inf)
    axes.set_ylim(max(limits[0], low - margin), min(limits[1], high + margin))
    axes.set_xlim(0, 1.25 * min_max([epochs, validation[0], ends[0]])[1] or 1.0)
    add_legend(axes, "lower right")
    if is_measured(validation):
        ends_later = reference is not None and reference.epochs[-1] > 1.02 * np.nanmax(validation[0])
        text = "{:.1f} %" if metric.is_fraction else "{:.4g}"
        label_last(axes, (validation[0], unit * validation[1]), text, (4, -13) if ends_later else (8, 0))


def plot_band(axes: "Axes", reference: ReferenceBand, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw a reference in gray; return its epochs, and its lowest and highest values as they are drawn."""
    epochs, means = reference.epochs, unit * reference.means
    low, high = means - unit * reference.stds, means + unit * reference.stds
    axes.fill_between(epochs, low, high, color=MUTED, alpha=0.25, linewidth=0, label=reference.label)
    axes.vlines(epochs, low, high, color=MUTED, alpha=0.6, linewidth=1.0)
    axes.plot(epochs, means, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
    return epochs, np.concatenate([low, high])


def label_last(axes: "Axes", points: tuple[np.ndarray, np.ndarray], form: str, offset: tuple[int, int]) -> None:
    """Mark the last finite value of a curve and write it next to it, `offset` points to the right and above."""
    epochs, values = points
    last = np.flatnonzero(np.isfinite(epochs + values))[-1]
    axes.plot(epochs[last], values[last], "o", color=WARM, markersize=5, clip_on=False)
    point, text = (epochs[last], values[last]), form.format(values[last])
    axes.annotate(text, point, offset, textcoords="offset points", va="center", color=INK, weight="bold")
