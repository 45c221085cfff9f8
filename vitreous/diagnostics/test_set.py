"""Measure a model on images it has not learned from."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions, read_options_for
from vitreous.data.sources import DEFAULT_FRACTION, absolute_source, load_images, load_train_validation
from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training.checkpoint import CheckpointReader
from vitreous.training.provenance import data_changed, describe_data
from vitreous.training.recipe import count_steps

MAX_NAMED = 4  # of the classes that differ, how many an error names


@dataclass(frozen=True)
class TestSet:
    """A model and the images that it is measured on."""

    classifier: ImageClassifier
    images: ImageSet
    """At the model's size."""
    source: str
    split: str
    is_own: bool
    """Whether the source holds the images that the model was trained with."""
    folder: RunFolder | None
    """Where results are kept: the run's folder, if these are its own test images."""
    reached: "TrainingStatus | None"


@dataclass(frozen=True)
class TrainingStatus:
    """How far the training of a run came whose model is measured."""

    step: int
    steps: int
    """Of the whole run."""

    @property
    def words(self) -> str | None:
        """What is to be said of it; nothing of a finished run."""
        return f"unfinished: step {self.step:,} of {self.steps:,}" if self.step < self.steps else None


def told(reached: TrainingStatus | None) -> dict[str, int]:
    """Where a run was, as a JSON object has it."""
    return {} if reached is None else asdict(reached)


def open_test_set(
    model: str | Path | ImageClassifier,
    data: str | None,
    split: str,
    device: str,
    count: int | None = None,
    *,
    skip_unreadable: bool = False,
) -> TestSet:
    """A model with the images of a split: all, or `count` of them, evenly from the first to the last.

    Raises:
        InputError: no such model or data, classes that don't match, or a count below 1.
    """
    if count is not None and count < 1:
        raise InputError(f"{count} images can't be measured: give a count of 1 or more")
    classifier = load(model, device)
    header, source = training_header(model), absolute_source(data or training_source(model))
    recipe, own = (None, False) if header is None else (header["recipe"], is_own_data(header, source, classifier))
    fraction = recipe["validation_fraction"] if recipe is not None and own else DEFAULT_FRACTION
    reading = reading_of(classifier, recipe["data"] if own and recipe else source, skip_unreadable=skip_unreadable)
    images = load_images(source, split, classifier.preprocessing.input_size, fraction, reading)
    check_classes(classifier, images, source)
    if count is not None and count < len(images):
        images = images.select(torch.linspace(0, len(images) - 1, count).round().long())
    kept = own and split == "test" and not isinstance(model, ImageClassifier)
    folder = RunFolder(Path(model)) if kept else None
    return TestSet(classifier, images, source, split, own, folder, training_status(model))


def run_folder_of(model: str | Path | ImageClassifier) -> RunFolder | None:
    """The run folder that this is, or that a model came from; None for a model without one."""
    place = model.origin if isinstance(model, ImageClassifier) else model
    return None if place is None or not RunFolder(Path(place)).recipe.is_file() else RunFolder(Path(place))


def training_header(model: str | Path | ImageClassifier) -> dict[str, Any] | None:
    """What the recipe.json of a run folder, or of the one a model came from, says; None for a model without one."""
    folder = run_folder_of(model)
    return None if folder is None else read_json(folder.recipe)


def training_recipe(model: str | Path | ImageClassifier) -> dict[str, Any] | None:
    """The settings in it."""
    header = training_header(model)
    return None if header is None else header["recipe"]


def is_own_data(header: dict[str, Any], source: str, classifier: ImageClassifier) -> bool:
    """Whether a source holds the images that a run was trained with: by its name, or else by their fingerprint.

    Of another folder, the training images are read for that, if it has any.
    """
    recipe = header["recipe"]
    if source == absolute_source(recipe["data"]):
        return True
    kind, _, place = source.partition(":")
    if kind != recipe["data"].partition(":")[0] or not place.startswith("/"):
        return False  # only a folder can have been moved
    reading = reading_of(classifier, recipe["data"])
    try:
        read = load_train_validation(
            source, classifier.preprocessing.input_size, recipe["validation_fraction"], reading
        )
    except InputError:  # no training images, as in a folder that is only for tests
        return False
    return not data_changed(describe_data(source, *read), header)


def training_status(model: str | Path | ImageClassifier) -> TrainingStatus | None:
    """Which step the weights of a run are of; None for a model that is no run folder."""
    folder, header = run_folder_of(model), training_header(model)
    images = header.get("data", {}).get("training") if header is not None else None
    if folder is None or header is None or images is None:
        return None
    logged = [line["step"] for line in read_metrics(folder)]
    if not logged and not folder.checkpoint.is_file():
        return None
    step = logged[-1] if logged else 0
    if folder.checkpoint.is_file():
        with suppress(InputError):  # damaged: the weights needn't be
            step = CheckpointReader(folder.checkpoint).step
    recipe = header["recipe"]
    return TrainingStatus(step, count_steps(recipe["epochs"], images, recipe["batch_size"]))


def reading_of(classifier: ImageClassifier, source: str, *, skip_unreadable: bool = False) -> ReadOptions:
    """How images of a source are read for a model: in its own shape, and as its run read them if they are its own."""
    recipe = training_recipe(classifier)
    own = recipe is not None and absolute_source(source) == absolute_source(recipe["data"])
    skips = recipe is not None and own and recipe.get("skip_unreadable", False)
    return read_options_for(classifier.preprocessing, skip_unreadable=skip_unreadable or skips)


def training_source(model: str | Path | ImageClassifier) -> str:
    """The source of images that a run was trained on."""
    recipe = training_recipe(model)
    if recipe is None:
        raise InputError("this model doesn't say what it was trained on: name the images with --data")
    return recipe["data"]


def check_classes(classifier: ImageClassifier, images: ImageSet, source: str) -> None:
    """Refuse images whose classes or channels aren't the model's."""
    if not classifier.class_names:
        raise InputError("this model has no classes, only features: there is nothing to hold against the truth")
    if images.class_names != classifier.class_names:
        words = class_difference(images.class_names, classifier.class_names, ("the data", "the model"))
        raise InputError(f"'{source}' has other classes than the model ({words}): choose other --data")
    channels = len(classifier.preprocessing.mean)
    if images.images_u8.shape[1] != channels:
        raise InputError(f"'{source}' has {images.images_u8.shape[1]} channels, the model takes {channels}")


def class_difference(first: tuple[str, ...], second: tuple[str, ...], owners: tuple[str, str]) -> str:
    """In what two lists of classes differ: how many there are of each, and the first that only one has.

    >>> class_difference(("cat", "dog", "elk"), ("cat", "dog"), ("the data", "the model"))
    '3 and 2; only in the data: elk'
    >>> class_difference(("cat", "dog"), ("dog", "cat"), ("the data", "the model"))
    'the same ones in another order, the first cat in the data, dog in the model'
    """
    if set(first) == set(second) and len(first) == len(second):
        one, other = next(pair for pair in zip(first, second, strict=True) if pair[0] != pair[1])
        return f"the same ones in another order, the first {one} in {owners[0]}, {other} in {owners[1]}"
    words = [f"{len(first)} and {len(second)}"]
    for owner, own, theirs in ((owners[0], first, second), (owners[1], second, first)):
        if only := [name for name in own if name not in theirs]:
            more = f" and {len(only) - MAX_NAMED} more" if len(only) > MAX_NAMED else ""
            words.append(f"only in {owner}: {', '.join(only[:MAX_NAMED])}{more}")
    return "; ".join(words)
