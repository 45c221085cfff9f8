"""The report on one model: its sections in order, those that can't be filled with the reason."""

from dataclasses import dataclass, field
from pathlib import Path

from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import EvaluationSet, TrainingRun, open_evaluation_set, training_run
from vitreous.diagnostics.report.content import ReportContent, Section
from vitreous.diagnostics.report.examples import examples_section
from vitreous.diagnostics.report.explanations import ExplanationChecks, doctor_section, faithfulness_section
from vitreous.diagnostics.report.filmstrip import filmstrip_section
from vitreous.diagnostics.report.history import curves_section, provenance_section, read_log, validation_headline
from vitreous.diagnostics.report.performance import (
    measure_performance,
    metric_headlines,
    performance_sections,
    stored_performance,
)
from vitreous.diagnostics.report.stored import subject_of, subject_without_images
from vitreous.diagnostics.report.training_page import (
    describe_config,
    footer,
    history_content,
    run_subtitle,
    run_title,
    status_notes,
)
from vitreous.errors import InputError, unknown
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.pretrained.load import load
from vitreous.runtime import select_device

REPORT_SPLITS = ("test", "validation")


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
        InputError: the model is no run and can't be loaded, or what the request names can't be had.
    """
    _check_request(request)
    run = training_run(model)
    try:
        test = open_evaluation_set(model, request.data, request.split, request.device, callback=callback)
        subject = subject_of(test)
        performance = measure_performance(subject, request.count, callback)
    except InputError as error:
        if run is None or request.data is not None or request.split != "test":
            raise
        callback.on_note(f"only what the run folder says is shown: {error}")
        return stored_content(run, request, str(error), callback)
    measured = (
        *performance_sections(performance),
        examples_section(performance, request.checks.method),
        faithfulness_section(subject, request.checks, callback),
        doctor_section(subject, request.checks, callback),
    )
    headlines, notes = metric_headlines(performance), split_notes(test, request)
    if run is None:
        config = test.classifier.model.config if isinstance(test.classifier.model, ViT) else None
        name = str(model) if isinstance(model, str | Path) else "model"
        return ReportContent(name, describe_config(config), headlines, notes, measured, footer())
    log = read_log(run)
    validation = validation_headline(run, log) if test.split == "test" else None  # else it is the first figure
    sections = (curves_section(run, log), *measured, filmstrip_section(run), provenance_section(run))
    shown = headlines if validation is None else (*headlines, validation)
    notes = (*status_notes(run, log), *notes)
    return ReportContent(run_title(run), run_subtitle(run), shown, notes, sections, footer())


def _check_request(request: ReportRequest) -> None:
    """Refuse what no model can give, so that it isn't taken for a run that can't be read.

    Raises:
        InputError: there is no such split or device.
    """
    if request.split not in REPORT_SPLITS:
        raise unknown("split", request.split, REPORT_SPLITS)
    select_device(request.device)


def split_notes(test: EvaluationSet, request: ReportRequest) -> tuple[str, ...]:
    """Say that there are no test images, where a data set has none."""
    if test.split == request.split:
        return ()
    return (f"{test.source} has no {request.split} images: all figures are of its {test.split} images.",)


def stored_content(run: TrainingRun, request: ReportRequest, reason: str, callback: Callback) -> ReportContent:
    """Lay out what a run folder holds whose images, or weights, can't be read: its results are of which weights?"""
    missing, strip = Section("measured", "Measurements", missing=f"Not measured: {reason}."), filmstrip_section(run)
    try:
        subject = subject_without_images(load(run.folder.path, request.device), run)
    except InputError:
        return history_content(run, (missing,), strip)
    performance = stored_performance(subject, callback)
    sections = () if performance is None else performance_sections(performance)
    checked = faithfulness_section(subject, request.checks, callback), doctor_section(subject, request.checks, callback)
    known = tuple(section for section in checked if not section.missing)
    headlines = () if performance is None else metric_headlines(performance)
    return history_content(run, (*sections, *known, missing), strip, headlines)
