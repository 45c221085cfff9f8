"""The charts of the report: training curves, reliability, confidences, and values with their intervals."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitreous.diagnostics.report.content import Chart, DataTable
from vitreous.diagnostics.report.svg import BOTTOM, TOP, Axis, SvgChart, round_axis
from vitreous.evaluation.calibration import BINS, Calibration
from vitreous.render.plots.curves import ReferenceBand, running_median, series
from vitreous.tasks.task import TaskMetric

SERIES_STYLES = ("cool", "warm")
MAX_POINTS, MAX_DOTS = 300, 40
"""Points of a line, and of a line with a dot on each."""
ROW_HEIGHT, MAX_NAME = 19, 20
NAME_WIDTH = 7.4
"""Of a character in a text, at most, in a chart's own units; wide ones, such as Chinese, take twice as much."""
Line = Mapping[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class CurveLine:
    """A line of a curve chart: values (points) over epochs (points)."""

    name: str
    style: str
    epochs: np.ndarray
    values: np.ndarray

    @property
    def is_measured(self) -> bool:
        """Whether any point is finite."""
        return bool(np.isfinite(self.epochs + self.values).any())


@dataclass(frozen=True)
class IntervalRow:
    """A value with its interval, on a row of its own."""

    name: str
    value: float
    low: float
    high: float
    style: str = "cool"


def loss_chart(metrics: Sequence[Line]) -> Chart | None:
    """Draw the loss over the epochs; None if nothing is measured."""
    return curve_chart("loss", "Loss", split_lines(metrics, "loss"), TaskMetric("loss", "loss", "loss", False, False))


def metric_chart(metrics: Sequence[Line], metric: TaskMetric, reference: ReferenceBand | None = None) -> Chart | None:
    """Draw the task's metric over the epochs, in per cent if it is a fraction; None if nothing is measured."""
    lines = split_lines(metrics, metric.name)
    return curve_chart(metric.name, metric.title.capitalize(), lines, metric, reference)


def split_lines(metrics: Sequence[Line], key: str) -> list[CurveLine]:
    """Return the running median of a value on training images, and the value on validation images."""
    training, validation = series(metrics, "train", key), series(metrics, "validation", key)
    lines = [CurveLine("training (running median)", "cool pale", *running_median(*training))]
    return [line for line in [*lines, CurveLine("validation", "warm", *validation)] if line.is_measured]


def curve_chart(
    key: str, title: str, lines: Sequence[CurveLine], metric: TaskMetric, reference: ReferenceBand | None = None
) -> Chart | None:
    """Draw lines over the epochs, and behind them the band of a reference; None without lines."""
    if not lines:
        return None
    unit = 100.0 if metric.is_fraction else 1.0
    ends = [unit * value for line in lines for value in _typical_range(line.values)]
    epochs = [float(np.nanmax(line.epochs)) for line in lines]
    if reference is not None:
        ends += [unit * float(end) for end in ((reference.means - reference.stds).min(), reference.means.max())]
        epochs.append(float(reference.epochs[-1]))
    limits = (0.0, 100.0) if metric.is_fraction else (-np.inf, np.inf)
    up = round_axis(ends, "", limits)
    chart = SvgChart(
        title,
        _describe_lines(title, lines, metric, reference),
        round_axis([0.0, max(epochs)], "epoch", (0.0, np.inf)),
        up,
    )
    if reference is not None:
        low, high = (unit * (reference.means + sign * reference.stds) for sign in (-1, 1))
        chart.band(reference.epochs, low, high, "muted")
        chart.line(reference.epochs, unit * reference.means, "muted dashed")
    for line in lines:
        step = -(-line.values.size // MAX_POINTS)
        points = line.epochs[::step], unit * line.values[::step]
        chart.line(*points, line.style, dots=points[0].size <= MAX_DOTS and "pale" not in line.style)
    for line in lines[-1:] if lines[-1].name == "validation" else ():
        last = np.flatnonzero(np.isfinite(line.epochs + line.values))[-1]
        chart.label(line.epochs[last], unit * line.values[last], metric.format(line.values[last], 1))
    legend = [(line.style, line.name) for line in lines] + ([("muted", reference.label)] if reference else [])
    note = f"{metric.title}, in %" if metric.is_fraction else ""
    return Chart(chart.to_svg(f"curve-{key}"), title, note, tuple(legend), curve_table(title, lines, metric, reference))


def _typical_range(values: np.ndarray) -> list[float]:
    """Return the ends of 99 % of many values, or of all of few."""
    finite = values[np.isfinite(values)]
    ends = np.percentile(finite, [0.5, 99.5] if finite.size > MAX_DOTS else [0, 100])
    return ends.tolist()


def _describe_lines(title: str, lines: Sequence[CurveLine], metric: TaskMetric, reference: ReferenceBand | None) -> str:
    """Describe a curve chart in words: where each line starts and ends."""
    parts = []
    for line in lines:
        known = np.flatnonzero(np.isfinite(line.epochs + line.values))
        first, last = (metric.format(float(line.values[index]), 1) for index in (known[0], known[-1]))
        parts.append(f"{line.name}: from {first} to {last} at epoch {line.epochs[known[-1]]:.3g}")
    if reference is not None:
        first, last = (metric.format(float(reference.means[index]), 1) for index in (0, -1))
        parts.append(f"{reference.label}: from {first} to {last} at epoch {reference.epochs[-1]:.3g}")
    return f"{title} over the epochs. {'; '.join(parts)}."


def curve_table(
    title: str, lines: Sequence[CurveLine], metric: TaskMetric, reference: ReferenceBand | None = None
) -> DataTable:
    """Make the table behind a curve chart: a line's value is its point nearest to the row, within half a spacing."""
    epochs, reach = table_epochs([line.epochs for line in lines] + ([reference.epochs] if reference else []))
    rows = []
    for epoch in epochs:
        cells = []
        for line in lines:
            index = _nearest(line.epochs, epoch, reach)
            value = None if index is None else float(line.values[index])
            cells.append("–" if value is None else metric.format(value, 2) if np.isfinite(value) else "not finite")
        if reference is not None:
            index = _nearest(reference.epochs, epoch, reach)
            mean, std = ("", "") if index is None else (reference.means[index], reference.stds[index])
            cells.append("–" if index is None else f"{metric.format(float(mean), 2)} ± {metric.format(float(std), 2)}")
        rows.append((f"{epoch:.2f}", *cells))
    names = [line.name for line in lines] + ([reference.label] if reference else [])
    return DataTable(title, ("epoch", *names), tuple(rows), is_folded=True)


def table_epochs(series: Sequence[np.ndarray]) -> tuple[list[float], float]:
    """Choose the rows of a table for several series of epochs, each (points,).

    Returns:
        The epochs of the series with the fewest points, and those of the others that lie further than half a spacing
        from every row; and half a spacing, so that each point stands in one row at most.
    """
    finite = [epochs for epochs in (one[np.isfinite(one)] for one in series) if epochs.size]
    thinned = [epochs[:: -epochs.size // MAX_DOTS][::-1] for epochs in finite]  # which keep the last point
    thinned.sort(key=lambda epochs: epochs.size)
    spaced = next((epochs for epochs in thinned if epochs.size > 1), np.zeros(0))
    reach = float(np.median(np.diff(spaced))) / 2 if spaced.size else 0.0
    rows: list[float] = []
    for epochs in thinned:
        rows += [epoch for epoch in epochs.tolist() if not rows or min(abs(epoch - one) for one in rows) > reach]
    return sorted(rows), reach


def _nearest(epochs: np.ndarray, epoch: float, reach: float) -> int | None:
    """Return the index of the point nearest to an epoch, if it is within reach."""
    distances = np.abs(epochs - epoch)
    if not np.isfinite(distances).any():
        return None
    index = int(np.nanargmin(distances))
    return index if distances[index] <= reach + 1e-9 else None


def text_width(text: str) -> int:
    """Return the width of a text in characters: wide ones count two, those that combine with the one before none.

    >>> text_width("cat"), text_width("猫")
    (3, 2)
    """
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def shorten_name(name: str) -> str:
    """Cut a name that is too wide for a chart, with an ellipsis.

    >>> shorten_name("a name of many letters")
    'a name of many lett…'
    """
    if text_width(name) <= MAX_NAME:
        return name
    end = next(end for end in range(len(name), -1, -1) if text_width(name[:end]) < MAX_NAME)
    return f"{name[:end]}…"


def reliability_charts(calibration: Calibration, count: int) -> tuple[Chart, Chart]:
    """Draw accuracy over confidence, and how many of the `count` images have which confidence."""
    percent = Axis(0.0, 100.0, "confidence in %", (0.0, 25.0, 50.0, 75.0, 100.0))
    up = Axis(0.0, 100.0, "", (0.0, 25.0, 50.0, 75.0, 100.0))
    gap = f"expected calibration error {calibration.ece:.1%}, up to {calibration.ece_by_chance:.1%} by chance"
    accuracy = SvgChart("Accuracy over confidence", f"Bars of accuracy by confidence; {gap}.", percent, up)
    most = 100 * max(one.count for one in calibration.bins) / count
    shares = SvgChart(
        "Confidences", f"Images by confidence; the fullest bin holds {most:.0f} % of them.", percent,
        round_axis([0.0, most], "", (0.0, 100.0)),
    )  # fmt: skip
    for one in calibration.bins:
        ends = 100 * one.low + 0.5, 100 * one.high - 0.5
        common = 100 * min(one.accuracy, one.confidence)
        accuracy.bar(ends, (0.0, common), "cool")
        if one.accuracy > one.confidence:
            accuracy.bar(ends, (common, 100 * one.accuracy), "cool pale")
        else:
            accuracy.bar(ends, (common, 100 * one.confidence), "warm pale")
        shares.bar(ends, (0.0, 100 * one.count / count), "muted")
    diagonal = np.array([0.0, 100.0])
    accuracy.line(diagonal, diagonal, "ink dashed")
    rows = [
        (f"{one.low:.0%} to {one.high:.0%}", f"{one.confidence:.1%}", f"{one.accuracy:.1%}", f"{one.count:,}")
        for one in calibration.bins
    ]
    table = DataTable("Bins of confidence", ("confidence", "mean confidence", "accuracy", "images"), tuple(rows), True)
    legend = (("cool", "accuracy"), ("cool pale", "underconfident"), ("warm pale", "overconfident"))
    return (
        Chart(
            accuracy.to_svg("reliability"), accuracy.title, f"accuracy in %, {BINS} bins of equal width", legend, table
        ),
        Chart(shares.to_svg("confidences"), shares.title, f"% of {count:,} images", (), table),
    )


def interval_chart(
    key: str, title: str, rows: Sequence[IntervalRow], metric: TaskMetric, *, note: str = "", zero: bool = False
) -> Chart:
    """Draw a dot and its interval for each row, from top to bottom.

    Args:
        key: for the ids of the chart.
        title: what the values are.
        rows: the values; those of a metric that is a fraction are drawn in per cent.
        metric: how they are written, and what they are called.
        note: one line below the title.
        zero: draw a line at 0, of differences.
    """
    unit = 100.0 if metric.is_fraction else 1.0
    ends = [unit * value for row in rows for value in (row.low, row.high)] + ([0.0] if zero else [])
    limits = (0.0, 100.0) if metric.is_fraction and not zero else (-np.inf, np.inf)
    across = round_axis(ends, f"{metric.title}{' in %' if metric.is_fraction else ''}", limits)
    shown = [shorten_name(row.name) for row in rows]
    left = round(16 + NAME_WIDTH * max(map(text_width, shown)))
    height = TOP + BOTTOM + ROW_HEIGHT * len(rows)
    best, worst = (choose(rows, key=lambda row: row.value) for choose in (max, min))
    text = f"{title}, 95 % intervals; highest: {best.name}, lowest: {worst.name}."
    up = Axis(0.0, float(len(rows)), "", ())
    chart = SvgChart(title, text, across, up, height=height, left=left, names=tuple(shown[::-1]))
    if zero:
        chart.rule(0.0, "ink dashed")
    for index, row in enumerate(rows[::-1]):
        chart.whisker(unit * row.low, unit * row.high, index + 0.5, row.style)
        chart.dot(unit * row.value, index + 0.5, row.style, radius=4)
    cells = [(row.name, *(metric.format(value, 1) for value in (row.value, row.low, row.high))) for row in rows]
    table = DataTable(title, ("", "value", "95 % from", "to"), tuple(cells), is_folded=True)
    return Chart(chart.to_svg(key), title, note, (), table)
