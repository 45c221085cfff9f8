"""How good the model is: its metrics with intervals, confusion, calibration and classes, measured or read."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vitreous.callbacks import Callback
from vitreous.diagnostics.predictions import ImageCounter, compute_outputs
from vitreous.diagnostics.report.charts import IntervalRow, interval_chart, reliability_charts, shorten_name
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
from vitreous.diagnostics.report.stored import ReportSubject, read_evaluation
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
PROPORTIONS = ("top1", "top5")
"""Metrics that have Wilson's interval; that of any other is a bootstrap over the images."""


@dataclass(frozen=True)
class Performance:
    """The evaluation of a model, and its outputs for images, of which examples are chosen.

    Attributes:
        outputs: None where the images can't be read.
        evaluation: of `num_evaluated` images.
        num_evaluated: images of the evaluation.
        num_images: images of the whole split.
        is_stored: whether the evaluation is that of evaluation.json.
    """

    subject: ReportSubject
    outputs: Outputs | None
    evaluation: Evaluation
    num_evaluated: int
    num_images: int
    is_stored: bool

    @property
    def method(self) -> str:
        """How the figures were got, in a sentence."""
        images = f"{self.evaluation.split} images of {self.evaluation.data}"
        if self.is_stored:
            return (
                f"Read from evaluation.json, which was measured with these weights on {self.num_evaluated:,} {images}."
            )
        some = "" if self.num_evaluated == self.num_images else f" of {self.num_images:,}, evenly spaced"
        is_own = some and self.subject.folder is not None
        more = " `vitreous evaluate` measures all of them, and the next report reads its result." if is_own else ""
        return f"Measured for this page on {self.num_evaluated:,} {images}{some}, in float32.{more}"

    @property
    def origin(self) -> str:
        """How the figures were got and on which images, in a few words for the head of the page."""
        how = "read from evaluation.json" if self.is_stored else "measured for this page"
        some = "" if self.num_evaluated == self.num_images else f" of {self.num_images:,}"
        images = f"{self.evaluation.split} images of {self.evaluation.data}"
        return f"n = {self.num_evaluated:,}{some} {images}, {how}"


def measure_performance(subject: ReportSubject, count: int | None, callback: Callback) -> Performance:
    """Compute a model's outputs for images of a set, and evaluate them, unless evaluation.json holds all.

    Args:
        subject: the model and all images of the split.
        count: images to compute outputs for, evenly spaced; by default up to 1,000.
        callback: receives the progress.
    """
    classifier, images, split = subject.classifier, subject.images, subject.split
    assert images is not None and split is not None
    task, total = find_task(classifier.task), len(images)
    task.check_model(classifier)
    chosen = min(total, DEFAULT_COUNT if count is None else count)
    images = images.select(torch.linspace(0, total - 1, chosen).round().long()) if chosen < total else images
    outputs = compute_outputs(classifier, images, counter=ImageCounter(chosen, callback))
    if (stored := read_evaluation(subject, callback)) is not None:
        return Performance(subject, outputs, stored, stored.count, total, is_stored=True)
    measured = replace(task.evaluate(classifier, outputs, None), data=subject.source, split=split)
    return Performance(subject, outputs, measured, chosen, total, is_stored=False)


def stored_performance(subject: ReportSubject, callback: Callback) -> Performance | None:
    """Return what evaluation.json says about a run whose images can't be read; None if that isn't of its weights."""
    stored = read_evaluation(subject, callback)
    return None if stored is None else Performance(subject, None, stored, stored.count, stored.count, is_stored=True)


def metric_headlines(performance: Performance) -> tuple[Headline, ...]:
    """Return all metrics of an evaluation with their intervals; the task's first."""
    own = {metric.name: metric for metric in find_task(performance.subject.classifier.task).metrics}
    found = []
    for name, one in performance.evaluation.metrics.items():
        fallback = TaskMetric(name, name, name, is_fraction=False)
        metric = own.get(name) or KNOWN_METRICS.get(name, fallback)
        label = f"{performance.evaluation.split} {metric.label}"
        note = f"{performance.origin}; {'Wilson' if name in PROPORTIONS else 'bootstrap'} interval"
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
        Section("confusion", "Confusion", f"{matrix_note(report)} {performance.method}", confusion_blocks(report)),
        calibration_section(report),
        Section(
            "classes", "Classes",
            "Precision: the fraction of a class's predictions that are right. Recall: the fraction of its images that "
            "are found. F1: their harmonic mean. 95 % intervals, Wilson's.",
            class_blocks(report),
        ),
    )  # fmt: skip


def matrix_note(report: ClassificationReport) -> str:
    """Say how to read the matrix, or why there is none."""
    if len(report.classes) <= MAX_MATRIX_CLASSES:
        return "Rows are true classes."
    return f"Of {len(report.classes):,} classes, the pairs that are confused most."


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
        caption = f"Images by true class (row) and predicted class (column), {counts.sum():,} in all"
        blocks.insert(0, Matrix(caption, names, tuple(map(shorten_name, names)), rows))
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
    ranked = sorted((one for one in report.classes if one.count), key=lambda one: one.f1)
    rows = [IntervalRow(one.name, one.f1, *one.f1_interval) for one in ranked[:MAX_CHART_CLASSES]]
    is_part = len(ranked) > MAX_CHART_CLASSES
    title = f"The {MAX_CHART_CLASSES} classes with the lowest F1" if is_part else "F1 of each class, lowest first"
    absent = len(report.classes) - len(ranked)
    note = f"without {absent:,} classes that have no images here" if absent else ""
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
    chart = interval_chart("class-f1", title, rows, TaskMetric("f1", "F1", "F1"), note=note)
    return ChartGrid((chart,)), table


def _format_estimate(value: float, interval: Interval) -> str:
    return f"{value:.1%} ({interval[0]:.0%}–{interval[1]:.0%})"
