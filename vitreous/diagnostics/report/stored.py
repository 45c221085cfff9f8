"""What a report is on, and the results that its run folder holds already: used if they fit weights and images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitreous.callbacks import Callback
from vitreous.data.image_set import ImageSet
from vitreous.diagnostics.doctor.findings import Finding
from vitreous.diagnostics.evaluation_set import EvaluationSet, TrainingRun
from vitreous.diagnostics.faithfulness.result import SUMMARY_FILE, FaithfulnessResult
from vitreous.diagnostics.faithfulness.run import PROTOCOL, FaithfulnessRequest, draw_images
from vitreous.diagnostics.faithfulness.values_file import FaithfulnessSettings
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import WEIGHTS
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.records import from_json
from vitreous.tasks.classification.evaluation import ClassificationEvaluation
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.evaluation import TrainingStatus


@dataclass(frozen=True)
class ReportSubject:
    """The model that a report is on, and its images.

    Attributes:
        folder: that holds earlier results; None unless the images are the run's own test images.
        source: of the images.
        split: of the images; None where they can't be read.
        images: all of the split, at the model's input size; None where they can't be read.
        status: how far the run was trained; None for a model that comes from no run.
    """

    classifier: ImageClassifier
    folder: Path | None
    source: str
    split: str | None
    images: ImageSet | None
    status: TrainingStatus | None


def subject_of(test: EvaluationSet) -> ReportSubject:
    """Return the subject of a report on a model and its images."""
    folder = None if test.results is None else test.results.path
    return ReportSubject(test.classifier, folder, test.source, test.split, test.images, test.status)


def subject_without_images(classifier: ImageClassifier, run: TrainingRun) -> ReportSubject:
    """Return the subject of a report on a run whose images can't be read."""
    return ReportSubject(classifier, run.folder.path, run.recipe.data, None, None, run.status())


def read_current(path: Path, classifier: ImageClassifier) -> dict[str, Any] | None:
    """Read a result that was measured with a model's weights; None if there is none, or it is of other weights.

    A file says which weights those were; one of an earlier version doesn't, and has to be newer than the weights.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return None
    values, weights = read_json(path), path.parent / WEIGHTS
    if known := values.get("weights"):
        return values if known == weights_fingerprint(classifier) else None
    return values if weights.is_file() and weights.stat().st_mtime <= path.stat().st_mtime else None


def read_evaluation(subject: ReportSubject, callback: Callback) -> ClassificationEvaluation | None:
    """Read evaluation.json of a classifier, if it is of these weights and images; a damaged file gets a note."""
    if subject.folder is None or subject.classifier.task != CLASSIFICATION.name:
        return None
    path = subject.folder / "evaluation.json"
    try:
        values = read_current(path, subject.classifier)
        if values is None or values.get("split") != (subject.split or values.get("split")):
            return None
        own = {key: value for key, value in values.items() if key not in ("step", "steps", "stopped_early")}
        found = from_json(ClassificationEvaluation, {"top5": None, "top5_interval": None, **own}, str(path))
    except InputError as error:
        callback.on_note(f"{error}; not used for the report")
        return None
    is_fitting = tuple(one.name for one in found.classes) == subject.classifier.class_names
    is_whole = subject.images is None or found.count == len(subject.images)
    return replace(found, status=subject.status) if is_fitting and is_whole else None


def read_faithfulness(subject: ReportSubject, method: str, callback: Callback) -> FaithfulnessResult | None:
    """Read faithfulness.json, if it is of these weights and images, by today's protocol and with the report's method.

    A damaged file, or one of version 0.1.0, gets a note.
    """
    path = None if subject.folder is None else subject.folder / SUMMARY_FILE
    if path is None or not path.is_file():
        return None
    try:
        found = from_json(FaithfulnessResult, read_json(path), str(path))
    except InputError as error:
        callback.on_note(f"{error}; not used for the report")
        return None
    names = {*found.skipped, *(one.name for one in found.methods)}
    return found if method in names and _is_of(found.settings, subject) else None


def _is_of(settings: FaithfulnessSettings, subject: ReportSubject) -> bool:
    """Whether values with these settings are of a subject's weights and images, by their fingerprints."""
    if settings.protocol != PROTOCOL or settings.weights != weights_fingerprint(subject.classifier):
        return False
    if subject.images is None:
        return settings.data == subject.source
    if settings.split != subject.split or not 0 < settings.count <= len(subject.images):
        return False
    request = FaithfulnessRequest(count=settings.count, seed=settings.seed)
    return draw_images(subject.images, subject.source, request)[0].fingerprint()[:16] == settings.images


def read_findings(subject: ReportSubject, callback: Callback) -> tuple[tuple[Finding, ...], int] | None:
    """Read the findings of doctor.json and their number of images, if they are of these weights and this data."""
    if subject.folder is None:
        return None
    path = subject.folder / "doctor.json"
    try:
        values = read_current(path, subject.classifier)
        if values is None or values.get("data") != subject.source:
            return None
        if values.get("split") != (subject.split or values.get("split")):
            return None
        findings = from_json(tuple[Finding, ...], values.get("findings"), str(path))
        return findings, from_json(int, values.get("images"), str(path))
    except InputError as error:
        callback.on_note(f"{error}; not used for the report")
        return None
