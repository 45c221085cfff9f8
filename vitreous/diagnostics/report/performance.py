"""How good the model is: its metrics with intervals, confusion, calibration and classes, measured or read."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import EvaluationSet
from vitreous.diagnostics.predictions import ImageCounter, compute_outputs
from vitreous.diagnostics.report.charts import IntervalRow, interval_chart, reliability_charts
from vitreous.diagnostics.report.content import (
    ChartGrid,
    DataTable,
    Headline,
    Matrix,
    MatrixCell,
    Section,
    SectionBlock,
)
from vitreous.diagnostics.report.history import format_ends
from vitreous.diagnostics.report.stored import read_evaluation
from vitreous.evaluation.intervals import Interval
from vitreous.evaluation.report import ClassificationReport
from vitreous.tasks.evaluation import Evaluation
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import Outputs, TaskMetric

DEFAULT_COUNT = 1000
MAX_MATRIX_CLASSES, MAX_CHART_CLASSES, MAX_PAIRS = 20, 24, 12
KNOWN_METRICS = {
    "top5": TaskMetric("top5", "top-5", "accuracy"),
    "loss": TaskMetric("loss", "loss", "loss", higher_is_better=False, is_fraction=False),
    "ece": TaskMetric("ece", "calibration error", "calibration error", higher_is_better=False),
}
"""Metrics that an evaluation has besides those of the task."""


@dataclass(frozen=True)
class Performance:
    """The evaluation of a model, and its outputs for images, of which examples are chosen.

    Attributes:
        evaluation: of `num_evaluated` images.
        num_evaluated: images of the evaluation.
        num_images: images of the whole split.
        is_stored: whether the evaluation is that of evaluation.json.
    """

    test: EvaluationSet
    outputs: Outputs
    evaluation: Evaluation
    num_evaluated: int
    num_images: int
    is_stored: bool

    @property
    def method(self) -> str:
        """How the figures were got, in a sentence."""
        split = f"{self.test.split} images of {self.test.source}"
        if self.is_stored:
            return (
                f"Read from evaluation.json, which was measured with these weights on {self.num_evaluated:,} {split}."
            )
        some = "" if self.num_evaluated == self.num_images else f" of {self.num_images:,}, evenly spaced"
        more = "" if not some else " `vitreous evaluate` measures all of them, and the next report reads its result."
        return f"Measured for this page on {self.num_evaluated:,} {split}{some}, in float32.{more}"


def measure_performance(test: EvaluationSet, count: int | None, callback: Callback) -> Performance:
    """Compute a model's outputs for images of a set, and evaluate them, unless evaluation.json holds all.

    Args:
        test: the model and all images of the split.
        count: images to compute outputs for, evenly spaced; by default up to 1,000.
        callback: receives the progress.
    """
    task, total = find_task(test.classifier.task), len(test.images)
    task.check_model(test.classifier)
    chosen = min(total, DEFAULT_COUNT if count is None else count)
    images = test.images.select(torch.linspace(0, total - 1, chosen).round().long()) if chosen < total else test.images
    outputs = compute_outputs(test.classifier, images, counter=ImageCounter(chosen, callback))
    stored = read_evaluation(test, callback) if test.results is not None else None
    if stored is not None:
        return Performance(test, outputs, stored, getattr(stored, "count", total), total, is_stored=True)
    measured = replace(task.evaluate(test.classifier, outputs, None), data=test.source, split=test.split)
    return Performance(test, outputs, measured, chosen, total, is_stored=False)


def metric_headlines(performance: Performance) -> tuple[Headline, ...]:
    """Return all metrics of an evaluation with their intervals; the task's first."""
    own = {metric.name: metric for metric in find_task(performance.test.classifier.task).metrics}
    found = []
    for name, one in performance.evaluation.metrics.items():
        fallback = TaskMetric(name, name, name, is_fraction=False)
        metric = own.get(name) or KNOWN_METRICS.get(name, fallback)
        label = f"{performance.test.split} {metric.label}"
        note = f"n = {performance.num_evaluated:,} images"
        found.append(Headline(label, metric.format(one.value, 2), format_ends(metric, one.interval), note))
    return tuple(found)


def performance_sections(performance: Performance) -> tuple[Section, ...]:
    """Show confusion, calibration and classes of a classifier; of any other task its metrics."""
    report = performance.evaluation
    if not isinstance(report, ClassificationReport):
        rows = tuple((one.label, one.value, one.interval) for one in metric_headlines(performance))
        table = DataTable("Metrics", ("", "value", "interval"), rows)
        return (Section("metrics", "Metrics", performance.method, (table,)),)
    return (
        Section("confusion", "Confusion", f"Rows are true classes. {performance.method}", confusion_blocks(report)),
        calibration_section(report),
        Section(
            "classes", "Classes",
            "Precision: the fraction of a class's predictions that are right. Recall: the fraction of its images that "
            "are found. F1: their harmonic mean. 95 % intervals, Wilson's.",
            class_blocks(report),
        ),
    )  # fmt: skip


def confusion_blocks(report: ClassificationReport) -> tuple[SectionBlock, ...]:
    """Show the matrix of up to 20 classes, and the pairs of classes that are confused most."""
    counts, names = np.array(report.confusion), tuple(one.name for one in report.classes)
    pairs = DataTable(
        "Most confused", ("true class", "predicted as", "images", "of the class"), confused_pairs(counts, names)
    )
    blocks: list[SectionBlock] = [pairs] if pairs.rows else []
    if len(names) <= MAX_MATRIX_CLASSES:
        fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        levels = np.ceil(10 * np.sqrt(fractions) - 1e-9).astype(int)
        rows = tuple(
            tuple(
                MatrixCell(f"{count:,}" if count else "·", int(levels[row, column]), row == column)
                for column, count in enumerate(line.tolist())
            )
            for row, line in enumerate(counts)
        )
        blocks.insert(
            0, Matrix(f"Images by true class (row) and predicted class (column), {counts.sum():,} in all", names, rows)
        )
    return tuple(blocks)


def confused_pairs(counts: np.ndarray, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """List the pairs of true and predicted class with the most images, at most 12."""
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [(int(index) // len(counts), int(index) % len(counts)) for index in order]
    return tuple(
        (
            names[true],
            names[predicted],
            f"{wrong[true, predicted]:,}",
            f"{wrong[true, predicted] / counts[true].sum():.1%}",
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    )


def calibration_section(report: ClassificationReport) -> Section:
    """Show whether confidence can be believed, and what it is good for."""
    calibration, selective = report.calibration, report.selective
    low, high = calibration.ece_interval
    note = (
        f"Expected calibration error {calibration.ece:.2%} (95 %: {low:.2%} to {high:.2%}); a perfectly calibrated "
        f"model would have up to {calibration.ece_by_chance:.2%} by chance."
    )
    if (scaling := report.temperature) is not None:
        note += f" A temperature of {scaling.temperature:.2f}, fitted on validation images, makes it "
        note += f"{scaling.ece_after:.2%}."
    rows = tuple(
        (f"{one.coverage:.0%}", f"{one.accuracy:.1%}", "{:.1%} to {:.1%}".format(*one.accuracy_interval))
        for one in selective.points
    )
    table = DataTable("Accuracy on the most confident images", ("images", "accuracy", "95 %"), rows)
    charts = ChartGrid(reliability_charts(calibration, report.count))
    return Section("calibration", "Calibration", note, (charts, table))


def class_blocks(report: ClassificationReport) -> tuple[SectionBlock, ...]:
    """Show F1 of the classes, worst first, and a table of all."""
    ranked = sorted(report.classes, key=lambda one: one.f1)
    rows = [IntervalRow(one.name, one.f1, *one.f1_interval) for one in ranked[:MAX_CHART_CLASSES]]
    is_part = len(ranked) > MAX_CHART_CLASSES
    title = f"The {MAX_CHART_CLASSES} classes with the lowest F1" if is_part else "F1 of each class, lowest first"
    cells = tuple(
        (
            one.name,
            _format_estimate(one.precision, one.precision_interval),
            _format_estimate(one.recall, one.recall_interval),
            _format_estimate(one.f1, one.f1_interval),
            f"{one.count:,}",
        )
        for one in report.classes
    )
    table = DataTable("All classes", ("class", "precision", "recall", "F1", "images"), cells, is_folded=len(cells) > 30)
    return ChartGrid((interval_chart("class-f1", title, rows, TaskMetric("f1", "F1", "F1")),)), table


def _format_estimate(value: float, interval: Interval) -> str:
    return f"{value:.1%} ({interval[0]:.0%}–{interval[1]:.0%})"
