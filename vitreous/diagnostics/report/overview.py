"""The report on one model: its sections in order, those that can't be filled with the reason."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import open_evaluation_set, training_run
from vitreous.diagnostics.report.content import ReportContent, Section
from vitreous.diagnostics.report.examples import examples_section
from vitreous.diagnostics.report.explanations import ExplanationChecks, doctor_section, faithfulness_section
from vitreous.diagnostics.report.history import (
    curves_section,
    filmstrip_section,
    provenance_section,
    validation_headline,
)
from vitreous.diagnostics.report.performance import measure_performance, metric_headlines, performance_sections
from vitreous.diagnostics.report.training_page import (
    describe_config,
    footer,
    history_content,
    run_subtitle,
    run_title,
    status_notes,
)
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT


@dataclass(frozen=True)
class ReportRequest:
    """What a report is made of.

    Attributes:
        data: a source; None for the one that the model was trained on.
        split: test or validation.
        count: images to predict; None for the default.
        device: auto, cpu or cuda.
        checks: what is measured about the maps, and by which method they are drawn.
    """

    data: str | None = None
    split: str = "test"
    count: int | None = None
    device: str = "auto"
    checks: ExplanationChecks = field(default_factory=ExplanationChecks)


def model_content(model: str | Path | ImageClassifier, request: ReportRequest, callback: Callback) -> ReportContent:
    """Measure what the run folder doesn't hold, and lay out the report.

    Of a run whose weights or images can't be read, the page shows the rest and says why.

    Raises:
        InputError: the model is no run and can't be loaded, or named data can't be read.
    """
    run = training_run(model)
    try:
        test = open_evaluation_set(model, request.data, request.split, request.device, callback=callback)
        performance = measure_performance(test, request.count, callback)
    except InputError as error:
        if run is None or request.data is not None:
            raise
        callback.on_note(f"only what the run folder says is shown: {error}")
        return history_content(run, Section("measured", "Measurements", missing=f"Not measured: {error}."))
    folder = test.results.path if test.results is not None else None
    count = min(request.checks.faithfulness_count, performance.num_images)
    checks = replace(request.checks, faithfulness_count=count, split=test.split)
    arguments = test.classifier, folder, test.source, checks, callback
    measured = (
        *performance_sections(performance),
        examples_section(performance, request.checks.method),
        faithfulness_section(*arguments),
        doctor_section(*arguments),
    )
    config = test.classifier.model.config if isinstance(test.classifier.model, ViT) else None
    headlines = metric_headlines(performance)
    if run is None:
        name = str(model) if isinstance(model, str | Path) else "model"
        return ReportContent(name, describe_config(config), headlines, (), measured, footer())
    validation = validation_headline(run)
    sections = (curves_section(run), *measured, filmstrip_section(run), provenance_section(run))
    all_headlines = headlines if validation is None or request.split == "validation" else (*headlines, validation)
    return ReportContent(run_title(run), run_subtitle(run), all_headlines, status_notes(run), sections, footer())
