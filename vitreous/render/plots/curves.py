"""Curves of a training run and the confusion matrix, as PNG files about 1600 pixels wide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import InputError
from vitreous.render.fonts import load_font, truncate_text
from vitreous.render.plots.style import (
    DPI,
    FIGURE_WIDTH,
    draw_placeholder,
    new_figure,
    point_marker,
    save_figure,
    style_axes,
    tint,
    to_points,
)
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, PAPER, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MEDIANS = 400
MOST_CLASSES_WITH_NUMBERS, MOST_CLASSES_WITH_COUNTS = 20, 10
MATRIX_SIDE, LARGEST_CELL, LONGEST_NAME = 1280, 420, 230
NARROWEST_MATRIX, MATRIX_HEAD = 1100, 160


@dataclass(frozen=True)
class Band:
    """What other runs reached: validation accuracies and their spread (0 to 1) over epochs, each (points,)."""

    epochs: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    label: str


def curves(metrics: Sequence[Mapping[str, Any]], path: Path | str, reference: Band | None = None) -> None:
    """Write a PNG of loss and accuracy over the epochs, from the lines of metrics.jsonl; there may be none yet.

    Each line's `split` says whether its `loss` and `top1` (0 to 1) are of "train" or "validation" images. Values
    that are not finite leave a gap. A `reference` lies behind the accuracies as a band.
    """
    figure = new_figure(FIGURE_WIDTH, 700)
    loss, accuracy = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.97, top=0.86, bottom=0.15, wspace=0.2)
    plot_loss(loss, series(metrics, "train", "loss"), series(metrics, "validation", "loss"))
    plot_accuracy(accuracy, series(metrics, "train", "top1"), series(metrics, "validation", "top1"), reference)
    save_figure(figure, path)


def series(metrics: Sequence[Mapping[str, Any]], split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of a split's lines that have `key`, both float64 (lines,), with NaN for what is not finite."""
    pairs = [(line["epoch"], line[key]) for line in metrics if line.get("split") == split and key in line]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table[~np.isfinite(table)] = np.nan
    return table[:, 0], table[:, 1]


def smoothed(epochs: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Running medians over a fiftieth of the finite values, at up to 400 places: epochs and medians, both (places,)."""
    known = np.isfinite(epochs) & np.isfinite(values)
    epochs, values = epochs[known], values[known]
    half = values.size // 100
    places = np.unique(np.linspace(0, max(0, values.size - 1), min(MOST_MEDIANS, values.size)).astype(int))
    medians = [np.median(values[max(0, place - half) : place + half + 1]) for place in places]
    return epochs[places], np.array(medians)


def plot_loss(axes: "Axes", training: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]) -> None:
    """Draw the loss of every step faintly, its running median, and the validation loss."""
    style_axes(axes, "loss")
    if not (is_measured(training) or is_measured(validation)):
        draw_placeholder(axes)
        return
    if is_measured(training):
        axes.plot(*training, color=COOL, linewidth=0.5, alpha=0.28)
        medians = smoothed(*training)
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
    # Steps are many and some are wild: all but a hundredth of them set the range. Validations are few, and all do.
    ends = [np.nanpercentile(training[1], [0.5, 99.5])] if is_measured(training) else []
    low, high = extremes([*ends, validation[1]])
    room = 0.06 * (high - low) or 0.5
    axes.set_ylim(low - room, high + room)
    axes.set_xlim(0, 1.04 * extremes([training[0], validation[0]])[1] or 1.0)
    axes.legend(loc="upper right", frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4)


def is_measured(points: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether any of the points can be drawn."""
    return bool(np.isfinite(points[0] + points[1]).any())


def extremes(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """The least and the greatest finite value in these arrays, of which there must be one."""
    values = np.concatenate(parts)
    return float(np.nanmin(values)), float(np.nanmax(values))


def plot_accuracy(
    axes: "Axes",
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    reference: Band | None = None,
) -> None:
    """Draw accuracy in per cent: of the augmented training images faintly, of the validation ones with a label."""
    style_axes(axes, "accuracy in %")
    if not (is_measured(training) or is_measured(validation)):
        draw_placeholder(axes)
        return
    epochs, share = smoothed(*training)
    ends = plot_band(axes, reference) if reference else (np.zeros(0), np.zeros(0))
    axes.plot(epochs, 100 * share, color=COOL, linewidth=1.2, alpha=0.6, label="training (augmented)")
    marker = point_marker(validation)
    axes.plot(
        validation[0], 100 * validation[1], color=WARM, linewidth=1.5, marker=marker, markersize=3, label="validation"
    )
    low, high = extremes([100 * share, 100 * validation[1], ends[1]])
    room = max(4.0, 0.08 * (high - low))
    axes.set_ylim(max(0.0, low - room), min(100.0, high + room))
    axes.set_xlim(0, 1.25 * extremes([epochs, validation[0], ends[0]])[1] or 1.0)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower right")
    if is_measured(validation):
        ahead = reference is not None and reference.epochs[-1] > 1.02 * np.nanmax(validation[0])
        name_last(axes, validation[0], 100 * validation[1], (4, -13) if ahead else (8, 0))


def plot_band(axes: "Axes", reference: Band) -> tuple[np.ndarray, np.ndarray]:
    """Draw a reference in gray; the epochs and per cents that it reaches."""
    epochs, means = reference.epochs, 100 * reference.means
    low, high = means - 100 * reference.spreads, means + 100 * reference.spreads
    axes.fill_between(epochs, low, high, color=MUTED, alpha=0.25, linewidth=0, label=reference.label)
    axes.vlines(epochs, low, high, color=MUTED, alpha=0.6, linewidth=1.0)
    axes.plot(epochs, means, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
    return epochs, np.concatenate([low, high])


def name_last(axes: "Axes", epochs: np.ndarray, percent: np.ndarray, offset: tuple[int, int]) -> None:
    """Mark the last finite value of a curve and write it beside it, so many points to the right and above."""
    last = np.flatnonzero(np.isfinite(epochs + percent))[-1]
    axes.plot(epochs[last], percent[last], "o", color=WARM, markersize=5, clip_on=False)
    point, text = (epochs[last], percent[last]), f"{percent[last]:.1f} %"
    axes.annotate(text, point, offset, textcoords="offset points", va="center", color=INK, weight="bold")


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], path: Path | str) -> None:
    """Write a PNG of a confusion matrix, counts (classes, classes) with truth in rows and answers in columns.

    Colors show the share of the row on a square-root scale, blue where right and orange where wrong; up to
    20 classes the cells also hold it in per cent, up to 10 the counts as well.

    Raises:
        InputError: the matrix is not square, has a negative count, or does not fit the names.
    """
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape != (len(class_names),) * 2 or not counts.size or counts.min() < 0:
        raise InputError(
            f"a matrix of shape {counts.shape} for {len(class_names)} class names can't be drawn: "
            "give counts, none negative, with one row and one column for each name"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(LARGEST_CELL, MATRIX_SIDE / len(counts))
    letters = int(min(24, max(10, 0.78 * cell)))
    names = [truncate_text(name, load_font(letters), LONGEST_NAME) for name in class_names]
    longest = max(load_font(letters).getlength(name) for name in names)
    upright = longest <= 0.92 * cell
    side, left, bottom = round(cell * len(counts)), round(longest) + 110, (letters if upright else round(longest)) + 100
    width, height = max(NARROWEST_MATRIX, left + side + 60), bottom + side + MATRIX_HEAD
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.imshow(confusion_colors(shares), interpolation="nearest", aspect="auto")
    name_classes(axes, names, letters, 0 if upright else 90)
    if len(counts) <= MOST_CLASSES_WITH_NUMBERS:
        write_cells(axes, counts, shares, cell)
    head(figure, counts)
    save_figure(figure, path)


def confusion_colors(shares: np.ndarray) -> np.ndarray:
    """White to blue on the diagonal and white to orange beside it: float (classes, classes, 3) in [0, 1]."""
    diagonal = np.eye(len(shares), dtype=bool)[..., None]
    return np.where(diagonal, tint(shares, COOL), tint(shares, WARM))


def name_classes(axes: "Axes", names: Sequence[str], letters_pixels: int, rotation: int) -> None:
    """Write the names along both sides, the titles of the sides, and thin white lines between the cells."""
    places, size = range(len(names)), to_points(letters_pixels)
    axes.set_xticks(places, names, rotation=rotation, fontsize=size, color=INK, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, color=INK, parse_math=False)
    axes.tick_params(length=0, pad=4)
    axes.set_xlabel("prediction", fontsize=to_points(24), color=MUTED, labelpad=8)
    axes.set_ylabel("truth", fontsize=to_points(24), color=MUTED, labelpad=8)
    edges = np.arange(1, len(names)) - 0.5
    thickness = min(1.0, 12 / len(names))
    axes.hlines(edges, -0.5, len(names) - 0.5, color=PAPER, linewidth=thickness)
    axes.vlines(edges, -0.5, len(names) - 0.5, color=PAPER, linewidth=thickness)
    for spine in axes.spines.values():
        spine.set_color(HAIRLINE)


def write_cells(axes: "Axes", counts: np.ndarray, shares: np.ndarray, cell_pixels: float) -> None:
    """Write the per cent of the row into every cell that is not empty, and under it the count if there is room."""
    roomy = len(counts) <= MOST_CLASSES_WITH_COUNTS
    size = min(40, cell_pixels * (0.22 if roomy else 0.32))
    step = size / cell_pixels if roomy else 0
    for row, column in np.argwhere(counts > 0):
        share, color = shares[row, column], PAPER if shares[row, column] > 0.35 else INK
        text, place = percent_text(100 * share, decimals=1 if roomy else 0), (column, row - 0.5 * step)
        axes.text(*place, text, ha="center", va="center", color=color, fontsize=to_points(size))
        if roomy:
            place, text = (column, row + 0.75 * step), f"{counts[row, column]:,}"
            axes.text(*place, text, ha="center", va="center", color=color, fontsize=to_points(0.66 * size), alpha=0.75)


def percent_text(percent: float, decimals: int) -> str:
    """The number rounded, but never to a nought that it is not.

    >>> percent_text(87.26, 1), percent_text(0.2, 0)
    ('87.3', '<1')
    """
    text = f"{percent:.{decimals}f}"
    return text if float(text) else f"<{10**-decimals:g}"


def head(figure: "Figure", counts: np.ndarray) -> None:
    """Write the accuracy above the matrix and, to its right, what the colors mean."""
    width, height = figure.get_size_inches() * DPI
    total, top = int(counts.sum()), 1 - 62 / height
    accuracy = f"{100 * np.trace(counts) / total:.1f} % right" if total else "nothing measured yet"
    figure.text(40 / width, top, accuracy, fontsize=to_points(34), weight="bold", color=INK, va="center")
    figure.text(40 / width, 1 - 108 / height, f"{total:,} images", fontsize=to_points(22), color=MUTED, va="center")
    ramp = np.tile(np.linspace(0, 1, 256), (2, 1))
    for i, (name, color) in enumerate((("right", COOL), ("wrong", WARM))):
        bar = figure.add_axes(((width - 320) / width, 1 - (66 + 36 * i) / height, 260 / width, 14 / height))
        bar.imshow(tint(ramp, color), aspect="auto")
        bar.set_axis_off()
        place, text = (1 - 334 / width, 1 - (59 + 36 * i) / height), f"{name}, 0 to 100 % of the row"
        figure.text(*place, text, color=MUTED, va="center", ha="right", fontsize=to_points(20))
