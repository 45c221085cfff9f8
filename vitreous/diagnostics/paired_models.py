"""Two models on the same images: opened together, refused where they can't be compared, and named apart."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vitreous.callbacks import Callback
from vitreous.diagnostics.evaluation_set import EvaluationSet, open_evaluation_set
from vitreous.diagnostics.predictions import ImageCounter, compute_outputs
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.tasks.classification.evaluation import class_difference
from vitreous.tasks.task import Outputs

AnyModel = str | Path | ImageClassifier


@dataclass(frozen=True)
class PairedModels:
    """Two models and the images that both are evaluated on.

    Attributes:
        names: the shortest ends of their paths that distinguish them, or "first model" and "second model".
        folders: that the models come from; None for a model without one.
        sets: each with its model; the images are the same.
    """

    names: tuple[str, str]
    folders: tuple[Path | None, Path | None]
    sets: tuple[EvaluationSet, EvaluationSet]

    @property
    def unfinished(self) -> tuple[str, ...]:
        """A line on each run whose training isn't finished."""
        return tuple(
            f"{name} is {one.status.message}"
            for name, one in zip(self.names, self.sets, strict=True)
            if one.status and one.status.message
        )

    def select(self, count: int | None) -> "PairedModels":
        """Return the pair with so many of the images, evenly spaced; all of them by default."""
        total = len(self.sets[0].images)
        if count is None or count >= total:
            return self
        indexes = torch.linspace(0, total - 1, count).round().long()
        first, second = (replace(one, images=one.images.select(indexes)) for one in self.sets)
        return replace(self, sets=(first, second))

    def outputs(self, callback: Callback) -> tuple[Outputs, Outputs]:
        """Compute the outputs of both models for the images; `callback` receives the progress."""
        counter = ImageCounter(sum(len(one.images) for one in self.sets), callback)
        first, second = (compute_outputs(one.classifier, one.images, counter=counter) for one in self.sets)
        return first, second


def open_pair(
    models: tuple[AnyModel, AnyModel], data: str | None, split: str, device: str, callback: Callback | None
) -> PairedModels:
    """Load two models and the images that both are evaluated on.

    Args:
        models: run folders, weights files, or loaded models.
        data: a source; by default the one that both were trained on.
        split: "test" or "validation".
        device: "auto", "cpu" or "cuda".
        callback: receives the notes on the models; they are written to the log by default.

    Raises:
        InputError: the models have different classes or different data, or are the same model.
    """
    check_different(*models)
    first, second = (load(model, device, callback=callback) for model in models)
    folders = _origin(first), _origin(second)
    names = distinct_names(*folders)
    if first.class_names != second.class_names:
        difference = class_difference(first.class_names, second.class_names, names)
        raise InputError(f"the models have different classes ({difference}): they can't be compared")
    sets = tuple(open_evaluation_set(classifier, data, split, device) for classifier in (first, second))
    check_same_images(sets[0], sets[1])
    return PairedModels(names, folders, (sets[0], sets[1]))


def check_different(first: str | Path | ImageClassifier, second: str | Path | ImageClassifier) -> None:
    """Refuse to compare a model with itself. Two loaded models may come from one folder: one may be quantized.

    Raises:
        InputError: both are the same object or the same path.
    """
    if first is second and isinstance(first, ImageClassifier):
        raise InputError("both models are the same object: give two different ones")
    if (
        isinstance(first, str | Path)
        and isinstance(second, str | Path)
        and Path(first).resolve() == Path(second).resolve()
    ):
        raise InputError(f"{first} and {second} are the same model: give two different ones")


def check_same_images(first: EvaluationSet, second: EvaluationSet) -> None:
    """Refuse to compare models on different images.

    Raises:
        InputError: the sources or the labels differ.
    """
    if first.source != second.source:
        raise InputError(
            f"the models were trained on different images, '{first.source}' and '{second.source}': "
            "name the images to compare them on with --data"
        )
    if not first.images.labels.equal(second.images.labels):
        counts = " and ".join(f"{len(one.images):,}" for one in (first, second))
        raise InputError(f"the runs hold out different {first.split} images ({counts}): compare them on the test split")


def distinct_names(first: Path | None, second: Path | None) -> tuple[str, str]:
    """Return the shortest ends of two paths that distinguish them; numbers for the same or unknown paths.

    >>> distinct_names(Path("/runs/a/x"), Path("/runs/b/x")), distinct_names(Path("/runs/a/x"), None)
    (('a/x', 'b/x'), ('first model', 'second model'))
    """
    if first is None or second is None or first.resolve() == second.resolve():
        return "first model", "second model"
    parts = first.resolve().parts, second.resolve().parts
    length = next(n for n in range(1, 1 + max(map(len, parts))) if parts[0][-n:] != parts[1][-n:])
    one, other = ("/".join(path[-length:]) for path in parts)
    return one, other


def _origin(classifier: ImageClassifier) -> Path | None:
    return None if classifier.origin is None else Path(classifier.origin)
