"""Write the report of a run, or of two: one HTML page with everything that is known, measured or read."""

from dataclasses import dataclass
from pathlib import Path

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.data.sources import absolute_source
from vitreous.diagnostics.evaluation_set import training_run
from vitreous.diagnostics.paired_models import open_pair
from vitreous.diagnostics.report.examples import DEFAULT_METHOD
from vitreous.diagnostics.report.explanations import (
    DEFAULT_DOCTOR_COUNT,
    DEFAULT_FAITHFULNESS_COUNT,
    ExplanationChecks,
)
from vitreous.diagnostics.report.overview import ReportRequest, model_content
from vitreous.diagnostics.report.page import render_page
from vitreous.diagnostics.report.pair import pair_content
from vitreous.diagnostics.report.training_page import REPORT_FILE
from vitreous.errors import InputError, unknown
from vitreous.explanation.registry import METHODS
from vitreous.files import check_writable, write_text
from vitreous.model.classifier import ImageClassifier

COMPARISON_FILE = "comparison.html"


@dataclass(frozen=True, repr=False)
class Report:
    """A report as one HTML page.

    Attributes:
        path: where it was written.
        html: the page.
        missing: the titles of the sections that are empty; the page says why.
    """

    path: Path
    html: str
    missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        absent = f", without {', '.join(self.missing)}" if self.missing else ""
        return f"Report({str(self.path)!r}, {len(self.html.encode()) / 1e6:.2f} MB{absent})"


@check_arguments
def report(
    model: str | Path | ImageClassifier,
    other: str | Path | ImageClassifier | None = None,
    *,
    output: str | Path | None = None,
    data: str | None = None,
    split: str = "test",
    count: int | None = None,
    method: str = DEFAULT_METHOD,
    faithfulness_count: int = DEFAULT_FAITHFULNESS_COUNT,
    doctor_count: int = DEFAULT_DOCTOR_COUNT,
    device: str = "auto",
    callback: Callback | None = None,
) -> Report:
    """Write what is known about a run as one HTML page, which loads nothing else; or compare two runs.

    Results that the run folder holds are used if they are of its weights: evaluation.json, faithfulness.json,
    doctor.json. What is missing is measured on few images, and the page says on how many. An unfinished run gives a
    page with what there is.

    Args:
        model: a run folder, a weights file, or a loaded model.
        other: a second one with the same classes, to compare with.
        output: the HTML file; by default report.html, in the run folder if there is one, unless other data are named:
            then in the working directory, as comparison.html is for two models.
        data: a source such as "cifar10"; by default the one that the model was trained on.
        split: "test", or "validation" while settings are still being chosen.
        count: number of images to predict, evenly spaced over the split; by default up to 1,000, for two models all.
        method: of the maps.
        faithfulness_count: number of images for faithfulness; 0 leaves it out. Two models are compared without.
        doctor_count: number of images for the doctor's findings; 0 leaves them out. Two models are compared without.
        device: "auto", "cpu" or "cuda".
        callback: receives the progress and notes.

    Raises:
        InputError: the model, the data or the method doesn't exist, a count is too small, the file can't be written,
            or two models can't be compared.

    >>> vitreous.report("runs/quick")                                         # doctest: +SKIP
    Report('runs/quick/report.html', 0.71 MB)
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    for name, number, least in (
        ("count", count, 1), ("faithfulness_count", faithfulness_count, 0), ("doctor_count", doctor_count, 0)
    ):  # fmt: skip
        if number is not None and number < least:
            raise InputError(f"{name} is {number}: give at least {least}")
    if other is not None:
        _check_pair_counts(faithfulness_count, doctor_count)
    path = _output_path(model, other, output, data)
    check_writable(path)
    callback = callback or Callback()
    request = ReportRequest(data, split, count, device, ExplanationChecks(faithfulness_count, doctor_count, method))
    if other is None:
        content = model_content(model, request, callback)
    else:
        content = pair_content(open_pair((model, other), data, split, device, callback), request, callback)
    found = Report(path, render_page(content), tuple(one.title for one in content.sections if one.missing))
    write_text(path, found.html)
    return found


def _check_pair_counts(faithfulness_count: int, doctor_count: int) -> None:
    """Refuse numbers of images that the page of two models has no use for."""
    for name, number, usual in (
        ("faithfulness_count", faithfulness_count, DEFAULT_FAITHFULNESS_COUNT),
        ("doctor_count", doctor_count, DEFAULT_DOCTOR_COUNT),
    ):
        if number not in (0, usual):
            what = name.removesuffix("_count")
            raise InputError(f"the page of two models has no section on {what}: leave out {name}, or report on each")


def _output_path(
    model: str | Path | ImageClassifier,
    other: str | Path | ImageClassifier | None,
    output: str | Path | None,
    data: str | None,
) -> Path:
    """Return where the page is written: into the run folder, if it is on a single run and its own data."""
    if output is not None:
        if Path(output).suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{output} is not an HTML file: choose a name that ends in .html")
        return Path(output)
    if other is not None:
        return Path(COMPARISON_FILE)
    run = training_run(model) if isinstance(model, str | Path) else None
    if run is None:
        return Path(REPORT_FILE)
    if data is None or absolute_source(data) == absolute_source(run.recipe.data):
        return run.folder.path / REPORT_FILE
    path = Path(REPORT_FILE)
    if path.resolve() == run.folder.report.resolve():
        raise InputError(f"{path} is the page of the run on its own data: choose another --output for '{data}'")
    return path
