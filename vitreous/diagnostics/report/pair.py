"""Two models on one page: their figures side by side, the paired difference, and the images on which they differ."""

from collections.abc import Sequence

import numpy as np

from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import EvaluationSet, TrainingRun
from vitreous.diagnostics.paired_models import PairedModels
from vitreous.diagnostics.report.charts import (
    SERIES_STYLES,
    CurveLine,
    IntervalRow,
    curve_chart,
    interval_chart,
)
from vitreous.diagnostics.report.content import (
    ChartGrid,
    DataTable,
    Example,
    Gallery,
    Headline,
    Paragraph,
    ReportContent,
    Section,
    SectionBlock,
)
from vitreous.diagnostics.report.examples import describe_method, explain_classes, image_of
from vitreous.diagnostics.report.history import format_ends, setting_texts
from vitreous.diagnostics.report.images import encode_map, encode_thumbnail
from vitreous.diagnostics.report.overview import ReportRequest, split_notes
from vitreous.diagnostics.report.performance import KNOWN_METRICS
from vitreous.diagnostics.report.training_page import footer
from vitreous.errors import InputError
from vitreous.evaluation.comparison import (
    Comparison,
    Difference,
    compare_predictions,
    format_p_value,
    summarize_comparison,
)
from vitreous.evaluation.intervals import wilson_interval
from vitreous.evaluation.report import Predictions
from vitreous.render.plots.curves import running_median, series
from vitreous.runs.run_folder import read_metrics
from vitreous.tasks.classification.evaluation import predictions_of
from vitreous.tasks.classification.figures import format_confidence
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import Outputs, TaskMetric

NUM_EXAMPLES = 6
"""Images of each kind on which the models differ."""
MAX_CLASSES = 24
POINTS = TaskMetric("difference", "difference", "difference", is_fraction=True)
LOSS = KNOWN_METRICS["loss"]


def pair_content(pair: PairedModels, request: ReportRequest, callback: Callback) -> ReportContent:
    """Measure two models on the same images and lay out the comparison."""
    pair = pair.select(request.count)
    runs, test = [one.run for one in pair.sets], pair.sets[0]
    outputs = pair.outputs(callback)
    subtitle = f"{len(test.images):,} {test.split} images of {test.source}, the same for both, in float32"
    title = f"{pair.names[0]} and {pair.names[1]}"
    notes = (*(f"{line}." for line in pair.unfinished), *split_notes(test, request))
    history = (pair_curves(pair.names, runs), pair_settings(pair.names, runs))
    if test.classifier.task != CLASSIFICATION.name:
        headlines = tuple(
            one for index in range(2) for one in task_headlines(pair.names[index], pair.sets[index], outputs[index])
        )
        return ReportContent(title, subtitle, headlines, notes, history, footer())
    first, second = (predictions_of(one.classifier, each) for one, each in zip(pair.sets, outputs, strict=True))
    comparison = compare_predictions(first, second, test.classifier.class_names)
    headlines = comparison_headlines(comparison, pair.names)
    sections = (
        agreement_section(comparison, pair.names),
        history[0],
        class_section(comparison, pair.names),
        difference_section(pair, outputs, (first, second), request.checks.method),
        history[1],
    )
    return ReportContent(title, subtitle, headlines, notes, sections, footer())


def task_headlines(name: str, test: EvaluationSet, outputs: Outputs) -> tuple[Headline, ...]:
    """Return the metrics of one model of any task."""
    task = find_task(test.classifier.task)
    own = {metric.name: metric for metric in task.metrics}
    metrics = task.evaluate(test.classifier, outputs, None).metrics
    return tuple(
        Headline(f"{name}: {metric.label}", metric.format(one.value, 2), format_ends(metric, one.interval), "")
        for key, one in metrics.items()
        if (metric := own.get(key) or KNOWN_METRICS.get(key))
    )


def comparison_headlines(comparison: Comparison, names: Sequence[str]) -> tuple[Headline, ...]:
    """Return the difference, with its interval, and both accuracies."""
    top1, metric = comparison.top1, CLASSIFICATION.metric
    low, high = (100 * end for end in top1.interval)
    verdict = "the interval excludes 0" if top1.is_significant else "the interval includes 0: not significant"
    difference = Headline(
        f"{names[1]} minus {names[0]}", f"{100 * top1.value:+.2f} points", f"95 %: {low:+.2f} to {high:+.2f}",
        f"paired bootstrap, {verdict}; McNemar p {format_p_value(comparison.p_value)}",
    )  # fmt: skip
    loss = comparison.loss
    loss_note = f"{loss.first:.4f} and {loss.second:.4f}; lower is better"
    ends = f"95 %: {loss.interval[0]:+.4f} to {loss.interval[1]:+.4f}"
    return (
        difference,
        *(
            Headline(
                f"top-1 of {name}",
                metric.format(value, 2),
                format_ends(metric, wilson_interval(value * comparison.count, comparison.count)),
                f"n = {comparison.count:,} images; Wilson interval",
            )
            for name, value in zip(names, (top1.first, top1.second), strict=True)
        ),
        Headline("loss, difference", f"{loss.value:+.4f}", ends, loss_note),
    )


def agreement_section(comparison: Comparison, names: Sequence[str]) -> Section:
    """Show the result in a sentence, and which images both, one or none of the models get right."""
    counts = (
        ("both right", comparison.both_correct),
        (f"only {names[0]} right", comparison.only_first_correct),
        (f"only {names[1]} right", comparison.only_second_correct),
        ("both wrong", comparison.both_wrong),
    )
    rows = tuple((name, f"{count:,}", f"{count / comparison.count:.1%}") for name, count in counts)
    sentence = summarize_comparison(comparison, names[0], names[1])
    table = DataTable("Images", ("", "images", "of all"), rows)
    return Section("difference", "Difference", blocks=(Paragraph(f"{sentence}."), table))


def pair_curves(names: Sequence[str], runs: Sequence[TrainingRun | None]) -> Section:
    """Show loss and metric of both runs over the epochs, on one chart each."""
    charts = []
    metric = next((find_task(run.recipe.task).metric for run in runs if run), CLASSIFICATION.metric)
    for one, title in ((LOSS, "Loss"), (metric, metric.title.capitalize())):
        lines = [line for pair in zip(names, runs, SERIES_STYLES, strict=True) for line in _run_lines(*pair, one.name)]
        if chart := curve_chart(one.name, title, lines, one):
            charts.append(chart)
    if not charts:
        return Section("curves", "Training", missing="Neither model comes from a run with metrics.jsonl.")
    note = "On the validation images of each run; of a run without any, the running median on its training images."
    return Section("curves", "Training", note, (ChartGrid(tuple(charts)),))


def _run_lines(name: str, run: TrainingRun | None, style: str, key: str) -> list[CurveLine]:
    if run is None:
        return []
    metrics = read_metrics(run.folder)
    validation = CurveLine(name, style, *series(metrics, "validation", key))
    if validation.is_measured:
        return [validation]
    training = CurveLine(f"{name}, training", style, *running_median(*series(metrics, "train", key)))
    return [training] if training.is_measured else []


def class_section(comparison: Comparison, names: Sequence[str]) -> Section:
    """Show the classes that the second model gained and lost, with the interval of each difference."""
    ranked = sorted(comparison.recall, key=lambda one: one.value)
    shown = ranked
    if len(ranked) > MAX_CLASSES:
        shown = sorted(sorted(ranked, key=lambda one: -abs(one.value))[:MAX_CLASSES], key=lambda one: one.value)
    rows = [IntervalRow(one.name, one.value, *one.interval, _difference_style(one)) for one in shown]
    title = f"Recall of {names[1]} minus that of {names[0]}"
    chart = interval_chart(
        "class-difference", title, rows, POINTS, zero=True, note="blue: lost, orange: gained, gray: may be chance"
    )
    cells = tuple(
        (
            one.name,
            f"{one.first:.1%}",
            f"{one.second:.1%}",
            f"{100 * one.value:+.1f}",
            "{:+.1f} to {:+.1f}".format(*(100 * end for end in one.interval)),
        )
        for one in comparison.recall
    )
    gained, lost = (
        ", ".join(one.name for one in ranked if one.is_significant and sign * one.value > 0) or "none"
        for sign in (1, -1)
    )
    chance = f"Of {len(ranked):,} intervals, about {0.05 * len(ranked):.2g} exclude 0 by chance alone."
    note = f"Gained, with an interval above 0: {gained}. Lost, with an interval below 0: {lost}. {chance}"
    table = DataTable("Recall of each class", ("class", *names, "points", "95 %"), cells, is_folded=len(cells) > 30)
    return Section("classes", "Classes gained and lost", note, (ChartGrid((chart,)), table))


def _difference_style(one: Difference) -> str:
    if not one.is_significant:
        return "muted"
    return "warm" if one.value > 0 else "cool"


def difference_section(
    pair: PairedModels, outputs: tuple[Outputs, Outputs], predictions: tuple[Predictions, Predictions], method: str
) -> Section:
    """Show images that only one of the models gets right, each with the maps of both for what they predict."""
    first, second = predictions
    blocks: list[SectionBlock] = []
    for winner, right, wrong in ((0, first, second), (1, second, first)):
        indexes = np.flatnonzero(right.correct & ~wrong.correct)
        order = np.argsort(-(right.confidence + wrong.confidence)[indexes], kind="stable")[:NUM_EXAMPLES]
        title = f"Only {pair.names[winner]} is right"
        note = (
            f"{order.size} of {indexes.size:,} images, those with the highest confidences first."
            if indexes.size
            else "There are none."
        )
        try:
            examples = difference_examples(pair, outputs, predictions, indexes[order], method)
        except InputError as error:
            return Section("examples", "Where they differ", missing=f"Not shown: {error}.")
        blocks.append(Gallery(title, note, examples))
    note = f"Maps: {describe_method(method)}, for the class that each model predicts."
    return Section("examples", "Where they differ", note, tuple(blocks))


def difference_examples(
    pair: PairedModels,
    outputs: tuple[Outputs, Outputs],
    predictions: tuple[Predictions, Predictions],
    indexes: np.ndarray,
    method: str,
) -> tuple[Example, ...]:
    """Make an example of each image: the image, and the map of each model for its own prediction."""
    images = [image_of(outputs[0].images, index) for index in indexes.tolist()]
    class_names = pair.sets[0].classifier.class_names
    maps = [
        explain_classes(one.classifier, images, each.predicted[indexes], method)
        for one, each in zip(pair.sets, predictions, strict=True)
    ]
    examples = []
    for order, index in enumerate(indexes.tolist()):
        truth = class_names[predictions[0].labels[index]]
        shown = [encode_thumbnail(images[order], f"is {truth}", f"{pair.sets[0].split} image, true class {truth}")]
        for name, each, found in zip(pair.names, predictions, maps, strict=True):
            text = f"{class_names[each.predicted[index]]} {format_confidence(float(each.confidence[index]))}"
            shown.append(encode_map(found[order], f"{name}: {text}"))
        examples.append(Example(tuple(shown), (), "plain"))
    return tuple(examples)


def pair_settings(names: Sequence[str], runs: Sequence[TrainingRun | None]) -> Section:
    """Show in which settings, versions and data the two runs differ."""
    if runs[0] is None or runs[1] is None:
        return Section(
            "provenance", "How they were made", missing="A model that comes from no run has no recipe to compare."
        )
    first, second = (setting_texts(run) for run in runs if run)
    rows = tuple(
        (name, first.get(name, "–"), second.get(name, "–"))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    )
    title = "How they were made"
    if not rows:
        return Section("provenance", title, blocks=(Paragraph("Recipes, versions, hardware and data are the same."),))
    note = "What differs between the two recipe.json; everything else is the same."
    return Section("provenance", title, note, (DataTable("Differences", ("", *names), rows),))
