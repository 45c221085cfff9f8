"""Results that the run folder holds already: used if they were measured with the weights that the report is on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitreous.callbacks import Callback
from vitreous.diagnostics.doctor.findings import Finding
from vitreous.diagnostics.evaluation_set import EvaluationSet
from vitreous.diagnostics.faithfulness.result import SUMMARY_FILE, FaithfulnessResult
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.model.classifier import ImageClassifier
from vitreous.model.serialization import WEIGHTS
from vitreous.pretrained.fingerprint import weights_fingerprint
from vitreous.records import from_json
from vitreous.tasks.classification.evaluation import ClassificationEvaluation
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.evaluation import Evaluation


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


def read_evaluation(test: EvaluationSet, callback: Callback) -> Evaluation | None:
    """Read evaluation.json of a classifier, if it is of these weights; a damaged file gets a note."""
    if test.results is None or test.classifier.task != CLASSIFICATION.name:
        return None
    path = test.results.path / "evaluation.json"
    try:
        values = read_current(path, test.classifier)
        if values is None or values.get("split") != test.split:
            return None
        own = {key: value for key, value in values.items() if key not in ("step", "steps")}
        found = from_json(ClassificationEvaluation, {"top5": None, "top5_interval": None, **own}, str(path))
    except InputError as error:
        callback.on_note(f"{error}; measured again for the report")
        return None
    is_fitting = tuple(one.name for one in found.classes) == test.classifier.class_names
    return replace(found, status=test.status) if is_fitting and found.count == len(test.images) else None


def read_faithfulness(folder: Path, classifier: ImageClassifier, callback: Callback) -> FaithfulnessResult | None:
    """Read faithfulness.json, if it is of these weights; a damaged file, or one of version 0.1.0, gets a note."""
    path = folder / SUMMARY_FILE
    if not path.is_file():
        return None
    try:
        found = from_json(FaithfulnessResult, read_json(path), str(path))
    except InputError as error:
        callback.on_note(f"{error}; measured again for the report")
        return None
    return found if found.settings.weights == weights_fingerprint(classifier) else None


def read_findings(
    folder: Path, classifier: ImageClassifier, callback: Callback
) -> tuple[tuple[Finding, ...], int] | None:
    """Read the findings of doctor.json and their number of images, if they are of these weights."""
    path = folder / "doctor.json"
    try:
        values = read_current(path, classifier)
        if values is None:
            return None
        findings = from_json(tuple[Finding, ...], values.get("findings"), str(path))
        return findings, from_json(int, values.get("images"), str(path))
    except InputError as error:
        callback.on_note(f"{error}; measured again for the report")
        return None
