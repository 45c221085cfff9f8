"""The labeled images that a model is evaluated on: by default the test split of the data it was trained on."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitreous.callbacks import Callback
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions, read_options_for
from vitreous.data.sources import (
    DEFAULT_FRACTION,
    SOURCES,
    absolute_source,
    evaluation_split,
    load_images,
    load_train_validation,
)
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.records import from_dict
from vitreous.runs.run_folder import RunFolder, read_metadata, read_metrics
from vitreous.tasks.evaluation import TrainingStatus
from vitreous.tasks.registry import find_task
from vitreous.training.checkpoint import CheckpointReader
from vitreous.training.early_stopping import stops_early
from vitreous.training.provenance import data_changed, describe_data
from vitreous.training.recipe import Recipe


@dataclass(frozen=True)
class TrainingRun:
    """What the recipe.json of a run says about its training."""

    folder: RunFolder
    recipe: Recipe
    metadata: Mapping[str, Any]
    """The whole of recipe.json, with the fingerprints of the data."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What recipe.json says about the images; empty where an early version said nothing."""
        return self.metadata.get("data", {})

    def status(self, metrics: Sequence[Mapping[str, Any]] | None = None) -> TrainingStatus | None:
        """Find out which step the weights are from; None if the run has logged nothing, or metrics.jsonl is damaged.

        Args:
            metrics: the lines of metrics.jsonl, where they are read.
        """
        images = self.data.get("training")
        if metrics is None:
            metrics = []
            with suppress(InputError):  # a damaged file says nothing, but the checkpoint does
                metrics = read_metrics(self.folder)
        if images is None or not (metrics or self.folder.checkpoint.is_file()):
            return None
        step, stopped_early = metrics[-1]["step"] if metrics else 0, False
        if self.folder.checkpoint.is_file():
            with suppress(InputError):  # a damaged checkpoint says nothing about the weights
                reader = CheckpointReader(self.folder.checkpoint)
                step = reader.step
                stopped_early = stops_early(step, reader.best, self.recipe, images)
        steps = self.recipe.steps(images)
        return TrainingStatus(step, steps, stopped_early and step < steps)


@dataclass(frozen=True)
class EvaluationSet:
    """A model and the labeled images that it is evaluated on."""

    classifier: ImageClassifier
    images: ImageSet
    """At the model's input size."""
    source: str
    split: str
    run: TrainingRun | None
    """The run that the model comes from."""
    is_own: bool
    """Whether `source` is the data that the model was trained on."""
    results: RunFolder | None
    """The run folder that results are saved in; None unless the images are the run's own test images."""
    status: TrainingStatus | None
    """How far the run was trained; None for a model that comes from no run."""


def open_evaluation_set(
    model: str | Path | ImageClassifier,
    data: str | None,
    split: str,
    device: str,
    count: int | None = None,
    *,
    skip_unreadable: bool = False,
    callback: Callback | None = None,
) -> EvaluationSet:
    """Load a model and a split of images with the same classes.

    Args:
        model: run folder, weights file, or a loaded model.
        data: source of the images; by default the one that the model was trained on.
        split: "test", "validation" or "train".
        device: "auto", "cpu" or "cuda".
        count: number of images, spaced evenly over the split; all by default.
        skip_unreadable: skip images that can't be read instead of raising.
        callback: receives the notes on the model; they are written to the log by default.

    Raises:
        InputError: the model or data doesn't exist, the classes differ, the data lack what the task is measured by, or
            the count is below 1.
    """
    if count is not None and count < 1:
        raise InputError(f"can't evaluate {count} images: give a count of at least 1")
    classifier = load(model, device, callback=callback)
    task, run = find_task(classifier.task), training_run(classifier)
    task.check_model(classifier)  # before images are read, which may take minutes
    source = absolute_source(data or training_source(run, classifier))
    own = run is not None and is_own_data(run, source, classifier)
    hold_out = run.recipe.hold_out if run is not None and own else DEFAULT_FRACTION
    known_source = run.recipe.data if run is not None and own else source
    options = read_options_of(classifier, run, known_source, skip_unreadable=skip_unreadable)
    found_split = evaluation_split(source, split, options.on_note)
    images = load_images(source, found_split, classifier.preprocessing.input_size, hold_out, options)
    images = fit_images(classifier, images, source)
    if missing := [name for name in task.truth if getattr(images, name) is None]:
        raise InputError(f"'{source}' has no {missing[0]}, by which {task.name} is measured: choose other --data")
    if count is not None and count < len(images):
        images = images.select(torch.linspace(0, len(images) - 1, count).round().long())
    saved = own and split == "test" and isinstance(model, str | Path)
    results = RunFolder(Path(model)) if saved else None
    return EvaluationSet(classifier, images, source, found_split, run, own, results, run.status() if run else None)


def training_run(model: str | Path | ImageClassifier) -> TrainingRun | None:
    """Read the recipe.json of a run folder, or of the run that a loaded model comes from; None for other models.

    Raises:
        InputError: it is damaged.
    """
    path = model.origin if isinstance(model, ImageClassifier) else model
    if path is None or not (folder := RunFolder(Path(path))).recipe.is_file():
        return None
    metadata = read_metadata(folder)
    return TrainingRun(folder, from_dict(Recipe, metadata.get("recipe", {}), str(folder.recipe)), metadata)


def training_source(
    run: TrainingRun | None, classifier: ImageClassifier, remedy: str = "name the images with --data"
) -> str:
    """Return the source of the images that a model was trained on: that of its run, or of a packaged model.

    Args:
        run: the run that the model comes from, if any.
        classifier: the model.
        remedy: what to do if the source is unknown, for the message.

    Raises:
        InputError: the model comes from no run and is not packaged with Vitreous.
    """
    if run is not None:
        return run.recipe.data
    prefix, _, name = str(classifier.origin).partition(":")
    if prefix == "vitreous" and name in SOURCES:
        return name
    raise InputError(f"the training data of this model is unknown: {remedy}")


def is_own_data(run: TrainingRun, source: str, classifier: ImageClassifier) -> bool:
    """Return whether a source holds the images that a run was trained on, by its name or by its fingerprint.

    A folder may have been moved, so the training images of another folder are read and fingerprinted.
    """
    if source == absolute_source(run.recipe.data):
        return True
    kind, _, folder = source.partition(":")
    if kind != run.recipe.data.partition(":")[0] or not folder.startswith("/"):
        return False
    options = read_options_of(classifier, run, run.recipe.data)
    input_size = classifier.preprocessing.input_size
    try:
        splits = load_train_validation(source, input_size, run.recipe.hold_out, options)
    except InputError:  # a folder with test images only
        return False
    truth = find_task(run.recipe.task).truth
    return not data_changed(describe_data(source, *splits, truth), run.metadata)


def read_options_of(
    classifier: ImageClassifier, run: TrainingRun | None, source: str, *, skip_unreadable: bool = False
) -> ReadOptions:
    """Return how images of a source are read for a model: resized as it needs, and as its run read its own data."""
    own = run is not None and absolute_source(source) == absolute_source(run.recipe.data)
    skips = run is not None and own and run.recipe.skip_unreadable
    options = read_options_for(classifier.preprocessing, skip_unreadable=skip_unreadable or skips)
    return replace(options, interpolation=run.recipe.interpolation) if run is not None and own else options


def first_test_images(
    classifier: ImageClassifier, run: TrainingRun | None, source: str, count: int
) -> tuple[list[np.ndarray], list[str]]:
    """Read the first images of a source's test split at the model's input size, and their labels.

    Returns:
        At most `count` images, uint8 (height, width, 3), and as many labels.

    Raises:
        InputError: there is no such source, or its classes or channels aren't the model's.
    """
    options = read_options_of(classifier, run, source)
    split = evaluation_split(source, "test", options.on_note)
    images = load_images(source, split, classifier.preprocessing.input_size, options=options)
    images = fit_images(classifier, images, source)
    chosen = images.select(list(range(min(count, len(images)))))
    pixels = chosen.images_u8.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    return list(pixels), [images.class_names[label] for label in chosen.labels.tolist()]


def fit_images(classifier: ImageClassifier, images: ImageSet, source: str) -> ImageSet:
    """Return images with the channels of a model; they must have what its task needs, such as the same classes.

    Raises:
        InputError: they don't fit.
    """
    find_task(classifier.task).check_evaluation(classifier, images, source)
    channels = len(classifier.preprocessing.mean)
    images = images.with_channels(channels)
    if images.images_u8.shape[1] != channels:
        raise InputError(f"'{source}' has {images.images_u8.shape[1]} channels, the model takes {channels}")
    return images
