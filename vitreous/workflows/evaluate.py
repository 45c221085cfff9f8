"""Measure a model on pictures it has not learned from."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vitreous.data.pictures import Pictures
from vitreous.data.reading import Reading, reading_for
from vitreous.data.sources import DEFAULT_FRACTION, absolute, load_pictures
from vitreous.errors import InputError
from vitreous.evaluation.certainty import Answers, Evaluation, judge, temperature_scaling
from vitreous.files import write_text
from vitreous.tasks.classification import Classifier
from vitreous.tasks.saved import read_json
from vitreous.training.run_folder import RunFolder
from vitreous.workflows.answers import answers_for
from vitreous.workflows.evaluate_figures import draw_evaluation
from vitreous.workflows.load import load


@dataclass(frozen=True)
class Examination:
    """A model and the pictures that it is measured on."""

    classifier: Classifier
    pictures: Pictures
    """At the model's size."""
    source: str
    split: str
    folder: RunFolder | None
    """Where results are kept: the run's folder, if these are its own test pictures."""


@dataclass(frozen=True, kw_only=True)
class Evaluated(Evaluation):
    """The scores of a model, and where it was measured."""

    data: str
    split: str
    files: tuple[Path, ...]
    """What was written, evaluation.json first: none if these aren't a run's own test pictures."""


def evaluate(
    model: str | Path | Classifier,
    data: str | None = None,
    *,
    split: str = "test",
    temperature: bool = False,
    skip_unreadable: bool = False,
    device: str = "auto",
) -> Evaluated:
    """Scores of a model on a split of its own data, or of other data with the same classes; in float32.

    Each score has an interval at 95 % beside it (percentile bootstrap over pictures). Scores of a run folder on its own
    test pictures are also written there: evaluation.json and, in figures/, confusion.png, reliability.png,
    selective.png and mistakes.png.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        data: a source such as "cifar10"; by default the one that the run was trained on.
        split: "test", or "validation" while settings are still being chosen.
        temperature: fit a temperature on the run's validation pictures and say what it does to the test pictures.
        skip_unreadable: leave out pictures that can't be read, and list them; a run that did so does it anyhow.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: no such model or data, classes that don't match, or nothing to fit a temperature on.
    """
    exam = examination(model, data, split, device, skip_unreadable=skip_unreadable)
    validation = _validation_answers(model, exam) if temperature else None
    given = answers_for(exam.classifier, exam.pictures)
    scores = judge(given, exam.classifier.class_names)
    if validation is not None:
        scores = replace(scores, temperature=temperature_scaling(validation, given))
    result = Evaluated(**vars(scores), data=exam.source, split=exam.split, files=())
    if exam.folder is None:
        return result
    path = exam.folder.path / "evaluation.json"
    write_text(path, json.dumps(as_json(result), indent=2) + "\n")
    return replace(result, files=(path, *draw_evaluation(scores, given, exam.pictures, exam.folder.figures)))


def as_json(result: Evaluated) -> dict[str, Any]:
    """Scores as plain dictionaries, without the files."""
    content = {"data": result.data, "split": result.split, **asdict(result)}
    del content["files"]
    return content


def examination(
    model: str | Path | Classifier,
    data: str | None,
    split: str,
    device: str,
    count: int | None = None,
    *,
    skip_unreadable: bool = False,
) -> Examination:
    """A model with the pictures of a split: all, or `count` of them, evenly from the first to the last.

    Raises:
        InputError: no such model or data, classes that don't match, or a count below 1.
    """
    if count is not None and count < 1:
        raise InputError(f"{count} pictures can't be measured: give a count of 1 or more")
    classifier = load(model, device)
    recipe, source = training_recipe(model), absolute(data or training_source(model))
    own = recipe is not None and source == absolute(recipe["data"])
    fraction = recipe["validation_fraction"] if recipe is not None and own else DEFAULT_FRACTION
    reading = reading_of(classifier, source, skip_unreadable=skip_unreadable)
    pictures = load_pictures(source, split, classifier.preprocessing.size_hw, fraction, reading)
    check_classes(classifier, pictures, source)
    if count is not None and count < len(pictures):
        pictures = pictures.select(torch.linspace(0, len(pictures) - 1, count).round().long())
    kept = own and split == "test" and not isinstance(model, Classifier)
    return Examination(classifier, pictures, source, split, RunFolder(Path(model)) if kept else None)


def training_recipe(model: str | Path | Classifier) -> dict[str, Any] | None:
    """What the recipe.json of a run folder, or of the one a model came from, says; None for a model without one."""
    place = model.origin if isinstance(model, Classifier) else model
    if place is None or not RunFolder(Path(place)).recipe.is_file():
        return None
    return read_json(RunFolder(Path(place)).recipe)["recipe"]


def reading_of(classifier: Classifier, source: str, *, skip_unreadable: bool = False) -> Reading:
    """How pictures of a source are read for a model: in its own shape, and as its run read them if they are its own."""
    recipe = training_recipe(classifier)
    own = recipe is not None and absolute(source) == absolute(recipe["data"])
    skips = recipe is not None and own and recipe.get("skip_unreadable", False)
    return reading_for(classifier.preprocessing, skip_unreadable=skip_unreadable or skips)


def training_source(model: str | Path | Classifier) -> str:
    """The source of pictures that a run was trained on."""
    recipe = training_recipe(model)
    if recipe is None:
        raise InputError("this model doesn't say what it was trained on: name the pictures with --data")
    return recipe["data"]


def check_classes(classifier: Classifier, pictures: Pictures, source: str) -> None:
    """Refuse pictures whose classes or channels aren't the model's."""
    if not classifier.class_names:
        raise InputError("this model has no classes, only features: there is nothing to hold against the truth")
    if pictures.class_names != classifier.class_names:
        theirs, ours = (", ".join(names[:4]) for names in (pictures.class_names, classifier.class_names))
        raise InputError(
            f"'{source}' has other classes ({theirs} ...) than the model ({ours} ...): choose other --data"
        )
    channels = len(classifier.preprocessing.mean)
    if pictures.images_u8.shape[1] != channels:
        raise InputError(f"'{source}' has {pictures.images_u8.shape[1]} channels, the model takes {channels}")


def _validation_answers(model: str | Path | Classifier, exam: Examination) -> Answers:
    """The answers for the pictures that a temperature may be fitted on: the run's own validation split."""
    recipe = training_recipe(model)
    if exam.split != "test":
        raise InputError(f"a temperature is fitted on the validation pictures, so it can't be judged on {exam.split}: "
                         "leave out --split")  # fmt: skip
    if recipe is None:
        raise InputError("a temperature is fitted on a run's own validation pictures, and this model is no run folder")
    size_hw, reading = exam.classifier.preprocessing.size_hw, reading_of(exam.classifier, recipe["data"])
    pictures = load_pictures(recipe["data"], "validation", size_hw, recipe["validation_fraction"], reading)
    return answers_for(exam.classifier, pictures)
