"""Predictions to scores: accuracy, loss, precision and recall. Pure functions on arrays; knows no model."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TOP = 5


@dataclass(frozen=True)
class ClassScore:
    """How well one class was told: each value is between 0 and 1, higher is better."""

    name: str
    precision: float
    recall: float
    f1: float
    count: int
    """Images that are of this class."""


@dataclass(frozen=True)
class Scores:
    """How well a set of images was told. Shares are between 0 and 1."""

    top1: float
    top5: float | None
    """None with five classes or fewer, where it says nothing."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing."""
    count: int
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Row: the truth; column: the prediction; value: images."""


def score(logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> Scores:
    """Scores of logits (count, classes) against labels (count)."""
    assert len(logits) == len(labels) > 0, "no predictions to score"
    logits = logits.float()
    ranked = logits.topk(min(TOP, logits.shape[1]), 1).indices
    hits = ranked == labels[:, None]
    matrix = confusion_matrix(ranked[:, 0], labels, len(class_names))
    return Scores(
        top1=hits[:, 0].double().mean().item(),
        top5=hits.any(1).double().mean().item() if len(class_names) > TOP else None,
        loss=functional.cross_entropy(logits, labels).item(),
        count=len(labels),
        classes=class_scores(matrix, class_names),
        confusion=tuple(map(tuple, matrix.tolist())),
    )


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Images by truth (row) and prediction (column): int64 (classes, classes)."""
    return torch.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def class_scores(matrix: Tensor, class_names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each class from a confusion matrix; 0 where there is nothing to divide by."""
    right, truths, predicted = matrix.diagonal().double(), matrix.sum(1), matrix.sum(0)
    precision = right / predicted.clamp(min=1)
    recall = right / truths.clamp(min=1)
    f1 = 2 * right / (truths + predicted).clamp(min=1)
    rows = zip(class_names, precision.tolist(), recall.tolist(), f1.tolist(), truths.tolist(), strict=True)
    return tuple(ClassScore(*row) for row in rows)
