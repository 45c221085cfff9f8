"""The report on one model: its sections in order, those that can't be filled with the reason."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import vitreous
from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import TrainingRun, open_evaluation_set, training_run
from vitreous.diagnostics.report.content import ReportContent, Section
from vitreous.diagnostics.report.examples import examples_section
from vitreous.diagnostics.report.explanations import ExplanationChecks, doctor_section, faithfulness_section
from vitreous.diagnostics.report.history import (
    curves_section,
    filmstrip_section,
    provenance_section,
    validation_headline,
)
from vitreous.diagnostics.report.page import render_page
from vitreous.diagnostics.report.performance import measure_performance, metric_headlines, performance_sections
from vitreous.errors import InputError
from vitreous.files import write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.vit import ViT
from vitreous.runs.run_folder import RunFolder

REPORT_FILE = "report.html"


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
    arguments = test.classifier, folder, test.source, request.checks, callback
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
    return ReportContent(_title(run), _subtitle(run), all_headlines, _status_notes(run), sections, footer())


def history_content(run: TrainingRun, unmeasured: Section) -> ReportContent:
    """Lay out what the run folder says without its weights, with the section that says what is not measured."""
    validation = validation_headline(run)
    sections = (curves_section(run), unmeasured, filmstrip_section(run), provenance_section(run))
    headlines = () if validation is None else (validation,)
    return ReportContent(_title(run), _subtitle(run), headlines, _status_notes(run), sections, footer())


def write_history_report(folder: RunFolder) -> Path:
    """Write report.html with what a run knows while it trains, which takes some milliseconds, and return its path.

    Raises:
        InputError: the folder holds no run, or can't be written.
    """
    run = training_run(folder.path)
    if run is None:
        raise InputError(f"{folder.path} holds no run (no recipe.json): give a run folder")
    missing = "Not measured during training: `vitreous report RUN` adds the score on the test images, confusion, "
    missing += "calibration, classes, mistakes with their maps, faithfulness and the doctor's findings."
    path = folder.path / REPORT_FILE
    write_text(path, render_page(history_content(run, Section("measured", "Measurements", missing=missing))))
    return path


def footer() -> str:
    """Say what wrote the page, and when."""
    return (
        f"Written by Vitreous {vitreous.__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Intervals are of 95 %."
    )


def describe_config(config: ViTConfig | None) -> str:
    """Describe a model in a line."""
    if config is None:
        return "a wrapped model"
    (height, width), patch = config.image_size, config.patch_size
    size = f"ViT of {config.depth} layers, {config.num_heads} heads, {config.embed_dim} dimensions"
    return f"{size} · {height} × {width} pixels in patches of {patch}"


def _title(run: TrainingRun) -> str:
    return run.folder.absolute.name or str(run.folder.path)


def _subtitle(run: TrainingRun) -> str:
    recipe = run.recipe
    return f"{recipe.name} on {recipe.data} · {recipe.epochs:g} epochs · {describe_config(recipe.model)}"


def _status_notes(run: TrainingRun) -> tuple[str, ...]:
    """Say that a run is unfinished."""
    status = run.status()
    if status is None:
        return ("This run has logged nothing yet.",)
    return () if status.message is None else (f"This run is {status.message}. The page shows what there is.",)
