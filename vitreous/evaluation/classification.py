"""Classification metrics of one set of predictions: accuracy, loss, precision, recall, F1 and confusion matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TOP_K = 5


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class, each between 0 and 1; higher is better."""

    name: str
    precision: float
    recall: float
    f1: float
    count: int
    """Images whose true label is this class."""


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of the predictions for a set of images; fractions are between 0 and 1."""

    top1: float
    top5: float | None
    """None with five classes or fewer, where it is always 1."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing."""
    count: int
    """Images."""
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Images by true class (row) and predicted class (column)."""


def compute_metrics(logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> ClassificationMetrics:
    """Compute all metrics.

    Args:
        logits: float (images, classes).
        labels: int64 (images), indexes into `class_names`.
        class_names: names of the classes, in the order of the logits.
    """
    assert len(logits) == len(labels) > 0, "no predictions to evaluate"
    logits = logits.float()
    ranked = logits.topk(min(TOP_K, logits.shape[1]), 1).indices
    hits = ranked == labels[:, None]
    matrix = confusion_counts(ranked[:, 0], labels, len(class_names))
    return ClassificationMetrics(
        top1=hits[:, 0].double().mean().item(),
        top5=hits.any(1).double().mean().item() if len(class_names) > TOP_K else None,
        loss=functional.cross_entropy(logits, labels).item(),
        count=len(labels),
        classes=class_metrics(matrix, class_names),
        confusion=tuple(map(tuple, matrix.tolist())),
    )


def confusion_counts(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count the images by true class (row) and predicted class (column): int64 (classes, classes)."""
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_metrics(matrix: Tensor, class_names: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    """Compute precision, recall and F1 of each class from a confusion matrix; 0 where the divisor is 0."""
    correct, truths, predicted = matrix.diagonal().double(), matrix.sum(1), matrix.sum(0)
    precision = correct / predicted.clamp(min=1)
    recall = correct / truths.clamp(min=1)
    f1 = 2 * correct / (truths + predicted).clamp(min=1)
    rows = zip(class_names, precision.tolist(), recall.tolist(), f1.tolist(), truths.tolist(), strict=True)
    return tuple(ClassMetrics(*row) for row in rows)
