"""The page of a run without measurements: what its folder says while it trains, written with each checkpoint."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vitreous.diagnostics.evaluation_set import TrainingRun, training_run
from vitreous.diagnostics.report.content import Headline, ReportContent, Section
from vitreous.diagnostics.report.filmstrip import filmstrip_section, later_section
from vitreous.diagnostics.report.history import (
    RunLog,
    curves_section,
    provenance_section,
    read_log,
    validation_headline,
)
from vitreous.diagnostics.report.page import render_page
from vitreous.errors import InputError
from vitreous.files import write_text
from vitreous.model.config import ViTConfig
from vitreous.runs.run_folder import RunFolder

REPORT_FILE = "report.html"
NOT_YET = (
    "Not measured during training: the page that is written at the end of the run, and `vitreous report RUN`, have the "
    "score on the test images, confusion, calibration, classes, mistakes with their maps, faithfulness and the "
    "doctor's findings."
)


def history_content(
    run: TrainingRun, middle: Sequence[Section], strip: Section, headlines: Sequence[Headline] = ()
) -> ReportContent:
    """Lay out what the run folder says without its images, with what is known or missing in the middle."""
    log = read_log(run)
    validation = validation_headline(run, log)
    sections = (curves_section(run, log), *middle, strip, provenance_section(run))
    shown = (*headlines, *(() if validation is None else (validation,)))
    return ReportContent(run_title(run), run_subtitle(run), shown, status_notes(run, log), sections, footer())


def write_history_report(folder: RunFolder, *, is_training: bool = True) -> Path:
    """Write report.html with what a run knows without measurements, and return its path.

    Args:
        folder: of the run.
        is_training: leave out the filmstrip, so that it takes some milliseconds.

    Raises:
        InputError: the folder holds no run, or can't be written.
    """
    run = training_run(folder.path)
    if run is None:
        raise InputError(f"{folder.path} holds no run (no recipe.json): give a run folder")
    path, unmeasured = folder.report, Section("measured", "Measurements", missing=NOT_YET)
    strip = later_section() if is_training else filmstrip_section(run)
    write_text(path, render_page(history_content(run, (unmeasured,), strip)))
    return path


def footer() -> str:
    """Say what wrote the page, and when."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    return f"Written by Vitreous {version('vitreous')} on {now} UTC. Intervals are of 95 %."


def describe_config(config: ViTConfig | None) -> str:
    """Describe a model in a line."""
    if config is None:
        return "a wrapped model"
    (height, width), patch = config.image_size, config.patch_size
    size = f"ViT of {config.depth} layers, {config.num_heads} heads, {config.embed_dim} dimensions"
    return f"{size} · {height} × {width} pixels in patches of {patch}"


def run_title(run: TrainingRun) -> str:
    return run.folder.absolute.name or str(run.folder.path)


def run_subtitle(run: TrainingRun) -> str:
    recipe = run.recipe
    epochs = f"{recipe.epochs:g} epoch{'s' * (recipe.epochs != 1)}"
    return f"{recipe.name}, trained on {recipe.data} · {epochs} · {describe_config(recipe.model)}"


def status_notes(run: TrainingRun, log: RunLog) -> tuple[str, ...]:
    """Say that a run is unfinished."""
    status = run.status(log.metrics)
    if status is None:
        return () if log.metrics or log.problem else ("This run has logged nothing yet.",)
    return () if status.message is None else (f"This run is {status.message}. The page shows what there is.",)
