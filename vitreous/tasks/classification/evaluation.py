"""The evaluation of a classifier: its report on a set of images, as `vitreous evaluate` returns and writes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.data.class_names import same_classes
from vitreous.data.image_set import ImageSet
from vitreous.errors import InputError
from vitreous.evaluation.classification import compute_metrics
from vitreous.evaluation.report import (
    ClassificationReport,
    Predictions,
    evaluate_predictions,
    fit_temperature_scaling,
    to_predictions,
)
from vitreous.model.classifier import ImageClassifier
from vitreous.tasks.evaluation import Evaluation, MetricValue
from vitreous.tasks.task import Outputs

MAX_NAMED = 4
"""Classes that an error message names."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ClassificationEvaluation(ClassificationReport, Evaluation):
    """The metrics of a classifier with 95 % confidence intervals, calibration and selective prediction."""

    @property
    def metrics(self) -> Mapping[str, MetricValue]:
        """top1, top5 (with more than five classes), loss, and ece: the expected calibration error."""
        found = {"top1": MetricValue(self.top1, self.top1_interval)}
        if self.top5 is not None and self.top5_interval is not None:
            found["top5"] = MetricValue(self.top5, self.top5_interval)
        found["loss"] = MetricValue(self.loss, self.loss_interval)
        return found | {"ece": MetricValue(self.calibration.ece, self.calibration.ece_interval)}

    def to_json(self) -> dict[str, object]:
        """Return the metrics as plain dictionaries, without the files; without top-5 for five classes or fewer."""
        omitted = {"top5", "top5_interval"} if self.top5 is None else set()
        return {key: value for key, value in super().to_json().items() if key not in omitted}

    def summary(self) -> str:
        """Format the main metrics, one per line."""
        return ClassificationReport.__str__(self)

    def __str__(self) -> str:
        return Evaluation.__str__(self)

    def __repr__(self) -> str:
        return str(self)


def measure(batches: Iterable[Tensor], images: ImageSet) -> Mapping[str, float]:
    """Compute accuracy and cross-entropy from logits (batch, classes) for all images, in batches and in order."""
    found = compute_metrics(torch.cat(list(batches)), images.labels.cpu(), images.class_names)
    return {"loss": found.loss, "top1": found.top1}


def evaluate(classifier: ImageClassifier, test: Outputs, validation: Outputs | None = None) -> ClassificationEvaluation:
    """Make the full report on test images, with temperature scaling if there are validation images to fit it on.

    Raises:
        InputError: the model's classes don't exclude each other.
    """
    predictions = predictions_of(classifier, test)
    report = evaluate_predictions(predictions, classifier.class_names)
    if validation is not None:
        scaling = fit_temperature_scaling(predictions_of(classifier, validation), predictions)
        report = replace(report, temperature=scaling)
    return ClassificationEvaluation(**vars(report))


def predictions_of(classifier: ImageClassifier, outputs: Outputs) -> Predictions:
    """Return logits and true labels as the statistics of `vitreous.evaluation` take them.

    Raises:
        InputError: the model's classes don't exclude each other.
    """
    return to_predictions(classifier.to_logits(outputs.values), outputs.images.labels)


def check_classes(classifier: ImageClassifier, images: ImageSet, source: str) -> None:
    """Check that images have the classes of a model.

    Raises:
        InputError: they differ, or the model has no classes.
    """
    if not classifier.class_names:
        raise InputError("this model has no classes, only features: it can't be evaluated against labels")
    if not same_classes(images.class_names, classifier.class_names):
        difference = class_difference(images.class_names, classifier.class_names, ("the data", "the model"))
        raise InputError(f"'{source}' has other classes than the model ({difference}): choose other --data")


def check_several_classes(images: ImageSet, source: str) -> None:
    """Refuse training images of a single class, or fewer of them than classes.

    Raises:
        InputError: there are fewer than two classes, or too few images.
    """
    classes = len(images.class_names)
    if classes < 2:
        raise InputError(f"'{source}' has {classes} class(es): classification needs two or more")
    if len(images) < classes:
        raise InputError(
            f"'{source}' has {len(images)} training images for {classes} classes, without those that are held out to "
            "validate on: add some, or lower validation_fraction"
        )


def class_difference(first: tuple[str, ...], second: tuple[str, ...], owners: tuple[str, str]) -> str:
    """Describe how two lists of classes differ: their lengths, and the first classes that only one has.

    >>> class_difference(("cat", "dog", "elk"), ("cat", "dog"), ("the data", "the model"))
    '3 and 2; only in the data: elk'
    >>> class_difference(("cat", "dog"), ("dog", "cat"), ("the data", "the model"))
    'the same classes in another order, the first is cat in the data, dog in the model'
    """
    if set(first) == set(second) and len(first) == len(second):
        one, other = next(pair for pair in zip(first, second, strict=True) if pair[0] != pair[1])
        return f"the same classes in another order, the first is {one} in {owners[0]}, {other} in {owners[1]}"
    parts = [f"{len(first)} and {len(second)}"]
    for owner, names, others in ((owners[0], first, second), (owners[1], second, first)):
        if only := [name for name in names if name not in others]:
            more = f" and {len(only) - MAX_NAMED} more" if len(only) > MAX_NAMED else ""
            parts.append(f"only in {owner}: {', '.join(only[:MAX_NAMED])}{more}")
    return "; ".join(parts)
