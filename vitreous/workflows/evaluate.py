"""Measure a model on images it has not learned from."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitreous.data.image_set import ImageSet
from vitreous.data.sources import load_images
from vitreous.diagnostics.predictions import predict_all
from vitreous.diagnostics.test_set import TestSet, TrainingStatus, open_test_set, reading_of, told, training_recipe
from vitreous.errors import InputError
from vitreous.evaluation.report import Evaluation, Predictions, evaluate_predictions, fit_temperature_scaling
from vitreous.files import write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.runs.run_folder import RunFolder
from vitreous.workflows.evaluate_figures import draw_evaluation


@dataclass(frozen=True, kw_only=True)
class Evaluated(Evaluation):
    """The scores of a model, and where it was measured."""

    data: str
    split: str
    files: tuple[Path, ...]
    """What was written, evaluation.json first: none if these aren't a run's own test images."""
    not_kept: str | None = None
    """What couldn't be written, and why, in one line."""
    reached: TrainingStatus | None = None
    """Where the run was; None for a model that is no run folder, or where it isn't told."""


def evaluate(
    model: str | Path | ImageClassifier,
    data: str | None = None,
    *,
    split: str = "test",
    temperature: bool = False,
    skip_unreadable: bool = False,
    device: str = "auto",
) -> Evaluated:
    """Scores of a model on a split of its own data, or of other data with the same classes; in float32.

    Each score has an interval at 95 % beside it. Scores of a run folder on its own test images, wherever they lie
    now, are also written there: evaluation.json and, in figures/, confusion.png, reliability.png, selective.png and
    mistakes.png. Where that can't be done, `not_kept` of the result says why.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        data: a source such as "cifar10"; by default the one that the run was trained on.
        split: "test", or "validation" while settings are still being chosen.
        temperature: fit a temperature on the run's validation images and say what it does to the test images.
        skip_unreadable: leave out images that can't be read, and list them; a run that did so does it anyhow.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: no such model or data, classes that don't match, or nothing to fit a temperature on.
    """
    exam = open_test_set(model, data, split, device, skip_unreadable=skip_unreadable)
    validation = _validation_answers(model, exam) if temperature else None
    given = predict_all(exam.classifier, exam.images)
    scores = evaluate_predictions(given, exam.classifier.class_names)
    if validation is not None:
        scores = replace(scores, temperature=fit_temperature_scaling(validation, given))
    result = Evaluated(**vars(scores), data=exam.source, split=exam.split, files=(), reached=exam.reached)
    return result if exam.folder is None else _kept(result, given, exam.images, exam.folder)


def _kept(result: Evaluated, given: Predictions, images: ImageSet, folder: RunFolder) -> Evaluated:
    """The result with the files that were written of it, and what hindered it if it couldn't be."""
    path, files = folder.path / "evaluation.json", ()
    try:
        write_text(path, json.dumps(as_json(result), indent=2) + "\n")
        files = (path,)
        return replace(result, files=(path, *draw_evaluation(result, given, images, folder.figures)))
    except InputError as error:
        return replace(result, files=files, not_kept=str(error))


def as_json(result: Evaluated) -> dict[str, Any]:
    """Scores as plain dictionaries, without the files; without top-5 where it says nothing."""
    content = {"data": result.data, "split": result.split, **told(result.reached), **asdict(result)}
    left_out = {"files", "not_kept", "reached"} | ({"top5", "top5_interval"} if result.top5 is None else set())
    return {key: value for key, value in content.items() if key not in left_out}


def _validation_answers(model: str | Path | ImageClassifier, exam: TestSet) -> Predictions:
    """The answers for the images that a temperature may be fitted on: the run's own validation split."""
    recipe = training_recipe(model)
    if exam.split != "test":
        raise InputError(f"a temperature is fitted on the validation images, so it can't be judged on {exam.split}: "
                         "leave out --split")  # fmt: skip
    if recipe is None:
        raise InputError("a temperature is fitted on a run's own validation images, and this model is no run folder")
    source = exam.source if exam.is_own else recipe["data"]
    size_hw, reading = exam.classifier.preprocessing.input_size, reading_of(exam.classifier, recipe["data"])
    images = load_images(source, "validation", size_hw, recipe["validation_fraction"], reading)
    return predict_all(exam.classifier, images)
