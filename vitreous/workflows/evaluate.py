"""Measure a model on pictures it has not learned from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.data.loader import Normalise
from vitreous.data.pictures import Pictures
from vitreous.data.sources import DEFAULT_FRACTION, load_pictures
from vitreous.errors import InputError
from vitreous.evaluation.classification import Scores
from vitreous.files import write_text
from vitreous.render.figure import confusion_matrix
from vitreous.tasks.classification import Classifier
from vitreous.tasks.saved import read_json
from vitreous.training.loop import score_pictures
from vitreous.training.run_folder import RunFolder
from vitreous.workflows.load import load


def evaluate(
    model: str | Path | Classifier, data: str | None = None, *, split: str = "test", device: str = "auto"
) -> Scores:
    """Scores of a model on a split of its own data, or of other data with the same classes; in float32.

    Scores of a run folder on its own test pictures are also written there: evaluation.json, figures/confusion.png.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        data: a source such as "cifar10"; by default the one that the run was trained on.
        split: "test", or "validation" while settings are still being chosen.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: no such model or data, or classes that don't match.
    """
    classifier = load(model, device)
    recipe, source = training_recipe(model), data or training_source(model)
    own = recipe is not None and source == recipe["data"]
    fraction = recipe["validation_fraction"] if recipe is not None and own else DEFAULT_FRACTION
    pictures = load_pictures(source, split, classifier.preprocessing.size_hw, fraction)
    check_classes(classifier, pictures, source)
    normalise = Normalise(classifier.preprocessing.mean, classifier.preprocessing.std)
    scores = score_pictures(classifier.vit, pictures.to(classifier.device), normalise, "fp32")
    if own and split == "test" and not isinstance(model, Classifier):
        _write(RunFolder(Path(model)), scores, source, classifier.class_names)
    return scores


def training_recipe(model: str | Path | Classifier) -> dict[str, Any] | None:
    """What a run folder's recipe.json says of the recipe; None for a model without one."""
    if isinstance(model, Classifier) or not RunFolder(Path(model)).recipe.is_file():
        return None
    return read_json(RunFolder(Path(model)).recipe)["recipe"]


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


def _write(folder: RunFolder, scores: Scores, source: str, class_names: tuple[str, ...]) -> None:
    content = {"data": source, "split": "test", **asdict(scores)}
    write_text(folder.path / "evaluation.json", json.dumps(content, indent=2) + "\n")
    confusion_matrix(np.array(scores.confusion), class_names, folder.figures / "confusion.png")
