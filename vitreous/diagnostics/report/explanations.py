"""Whether the model's maps can be trusted: faithfulness beside two baselines, and the findings of the doctor."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitreous.callbacks import Callback, WithoutProgress
from vitreous.diagnostics.doctor.findings import Finding
from vitreous.diagnostics.doctor.run import doctor
from vitreous.diagnostics.faithfulness.report import METRICS, MethodReport, summarize_reports
from vitreous.diagnostics.faithfulness.result import FaithfulnessResult
from vitreous.diagnostics.faithfulness.run import FaithfulnessRequest, measure_faithfulness
from vitreous.diagnostics.faithfulness.statistics import MIN_IMAGES
from vitreous.diagnostics.report.charts import IntervalRow, interval_chart
from vitreous.diagnostics.report.content import CardGrid, Chart, ChartGrid, DataTable, FindingCard, Section
from vitreous.diagnostics.report.examples import DEFAULT_METHOD, image_of
from vitreous.diagnostics.report.stored import ReportSubject, read_faithfulness, read_findings
from vitreous.errors import InputError
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.task import TaskMetric

DEFAULT_FAITHFULNESS_COUNT, DEFAULT_DOCTOR_COUNT = 16, 8
"""Few, since they take most of the time of a report; from 32 images on, methods are compared with the baselines."""
QUICK_METHODS = ("attention", "rollout", "gradient-rollout")
"""Methods that cost little more than a forward or backward pass; those of the whole table take minutes."""
QUICK_SETS = 30
"""Random sets of each size for sensitivity-n; the 100 of `vitreous faithfulness` took half of a report's time."""
SHORT_TITLES = {
    "insertion": "Insertion",
    "deletion": "Deletion",
    "road_most": "ROAD, most relevant first",
    "road_least": "ROAD, least relevant first",
    "sensitivity": "Sensitivity-n",
}
LEVEL_NAMES = {"fault": "fault", "note": "note", "ok": "fine", "unknown": "unknown"}


@dataclass(frozen=True)
class ExplanationChecks:
    """What is measured about the maps for the report.

    Attributes:
        faithfulness_count: images; 0 leaves the section out.
        doctor_count: images; 0 leaves the section out.
        method: of the report's maps, which is measured with the quick ones.
    """

    faithfulness_count: int = DEFAULT_FAITHFULNESS_COUNT
    doctor_count: int = DEFAULT_DOCTOR_COUNT
    method: str = DEFAULT_METHOD


def faithfulness_section(subject: ReportSubject, checks: ExplanationChecks, callback: Callback) -> Section:
    """Show the faithfulness of maps beside a random map and a center bias."""
    key, title, task = "faithfulness", "Faithfulness of the maps", subject.classifier.task
    if task != CLASSIFICATION.name:
        missing = f"It follows the probability of a class, which a model of the task {task} doesn't have."
        return Section(key, title, missing=missing)
    result = read_faithfulness(subject, checks.method, callback)
    origin, remedy = "Read from faithfulness.json, which was measured with these weights", "faithfulness RUN --count"
    if result is None and (subject.images is None or not checks.faithfulness_count):
        return Section(key, title, missing="Not measured: `vitreous faithfulness RUN` measures it, for all methods.")
    try:
        if result is None:
            origin = f"Measured for this page, for a few methods, sensitivity-n with {QUICK_SETS} sets of each size"
            remedy = "report RUN --faithfulness-count"
            result = measure_quick_methods(subject, checks, callback)
    except InputError as error:
        return Section(key, title, missing=f"Not measured: {error}.")
    settings = result.settings
    note = (
        f"{origin}: {settings.count} {settings.split} images of {settings.data}, drawn with seed {settings.seed}; "
        f"target: the {settings.target} class. {_comparison(result, remedy)}"
    )
    charts = tuple(method_chart(result, name) for name, metric in METRICS.items() if metric.is_compared)
    return Section(key, title, note, (ChartGrid(charts), faithfulness_table(result.methods)))


def _comparison(result: FaithfulnessResult, remedy: str) -> str:
    """Say which methods are better than the baselines, or by which command that can be found out."""
    if result.settings.count >= MIN_IMAGES:
        return summarize_reports(result.methods)
    return (
        f"Fewer than {MIN_IMAGES} images: methods are not compared with the baselines; `vitreous {remedy} "
        f"{MIN_IMAGES}` compares them."
    )


def measure_quick_methods(subject: ReportSubject, checks: ExplanationChecks, callback: Callback) -> FaithfulnessResult:
    """Measure the quick methods and the report's own on a few images; only the result is kept."""
    images, split = subject.images, subject.split
    assert images is not None and split is not None
    methods = tuple(dict.fromkeys((*QUICK_METHODS, checks.method)))
    count = min(checks.faithfulness_count, len(images))
    request = FaithfulnessRequest(methods, count, split=split, sets_per_size=QUICK_SETS)
    with tempfile.TemporaryDirectory() as folder:
        return measure_faithfulness(
            subject.classifier, subject.source, request, Path(folder), images=images, callback=WithoutProgress(callback)
        )


def method_chart(result: FaithfulnessResult, name: str) -> Chart:
    """Draw one metric of all methods, the baselines in gray."""
    metric = METRICS[name]
    rows = [
        IntervalRow(one.name, score.value, score.low, score.high, "muted" if one.baseline else "cool")
        for one in result.methods
        if (score := one.scores.get(name)) is not None
    ]
    unit = "correlation" if name == "sensitivity" else result.unit
    plain = TaskMetric(name, unit, unit, metric.direction == "higher", is_fraction=False)
    return interval_chart(f"faithful-{name}", SHORT_TITLES[name], rows, plain, note=f"{metric.direction} is better")


def faithfulness_table(methods: Sequence[MethodReport]) -> DataTable:
    """Make the table of all scores, with what a method is not better than."""
    names = [name for name in METRICS if any(name in one.scores for one in methods)]
    arrows = {"higher": "↑", "lower": "↓"}
    rows = []
    for one in methods:
        cells = []
        for name in names:
            score, worse = one.scores.get(name), one.not_better_than.get(name, ())
            text = "–" if score is None else f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"
            is_compared = score is not None and score.n >= MIN_IMAGES  # of fewer images nothing is claimed
            cells.append(text + (f", not better than {' or '.join(worse)}" if worse and is_compared else ""))
        rows.append((one.name + (", baseline" if one.baseline else ""), *cells))
    columns = ("method", *(f"{name.replace('_', ' ')} {arrows[METRICS[name].direction]}" for name in names))
    return DataTable("All scores with 95 % intervals", columns, tuple(rows), is_folded=True)


def doctor_section(subject: ReportSubject, checks: ExplanationChecks, callback: Callback) -> Section:
    """Show the findings of the doctor, faults first."""
    key, title = "doctor", "Doctor's findings"
    stored, images = read_findings(subject, callback), subject.images
    if stored is not None:
        note = f"Read from doctor.json, which was measured with these weights on {stored[1]} images."
        return Section(key, title, note, (finding_cards(stored[0]),))
    if images is None or not checks.doctor_count:
        return Section(key, title, missing="Not measured: `vitreous doctor RUN` measures it.")
    first = [image_of(images, index) for index in range(min(checks.doctor_count, len(images)))]
    try:
        diagnosis = doctor(subject.classifier, first, callback=WithoutProgress(callback))
    except InputError as error:
        return Section(key, title, missing=f"Not measured: {error}.")
    count = f"the first {len(diagnosis.images_u8)} {subject.split} images"
    note = f"Measured for this page on {count}; `vitreous doctor` adds charts."
    return Section(key, title, f"{note} Layers and heads are counted from 0.", (finding_cards(diagnosis.findings),))


def finding_cards(findings: Sequence[Finding]) -> CardGrid:
    """Turn findings into cards."""
    return CardGrid(tuple(FindingCard(LEVEL_NAMES[one.level], one.topic, one.message, one.advice) for one in findings))
