"""Choose k of kNN, and the penalty of logistic regression, on validation images, and score the test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from vitreous.transfer.neighbors import NEIGHBOR_COUNTS, neighbor_votes
from vitreous.transfer.probing.data import LabeledFeatures, ProbeData
from vitreous.transfer.probing.linear import INVERSE_PENALTIES, ROUGH, LinearClassifier, fit_logistic_path

PATIENCE = 4
"""Penalties, two decades of them, after the best one."""


@dataclass(frozen=True)
class Choice:
    """What validation chose, and the test images' scores with it.

    Attributes:
        setting: k, or C.
        validation_accuracy: with it, of a classifier that has not learned from the validation images.
        scores: (test images, classes).
        classifier: of logistic regression, for features as they are.
    """

    setting: float
    validation_accuracy: float
    scores: Tensor
    classifier: LinearClassifier | None = None


class Fit(Protocol):
    """Learns from training features, chooses on the validation part and scores the test part."""

    def __call__(self, training: LabeledFeatures, data: ProbeData, *, refit: bool) -> Choice:
        """With `refit`, the chosen setting learns from training and validation images."""
        ...


def fit_knn(training: LabeledFeatures, data: ProbeData, *, refit: bool) -> Choice:
    """Let the nearest training images vote; of k with equal accuracy the smallest is chosen."""
    classes, labels = len(data.class_names), data.validation.labels
    counts = [count for count in NEIGHBOR_COUNTS if count <= len(training)]
    votes = neighbor_votes(data.validation.vectors, training.vectors, training.labels, classes, counts)
    accuracies = [_accuracy(one, labels) for one in votes]
    best = max(range(len(counts)), key=lambda index: accuracies[index])
    bank = training.join(data.validation) if refit else training
    (scores,) = neighbor_votes(data.test.vectors, bank.vectors, bank.labels, classes, [counts[best]])
    return Choice(counts[best], accuracies[best], scores)


def fit_logistic(training: LabeledFeatures, data: ProbeData, *, refit: bool) -> Choice:
    """Fit a logistic regression for each penalty; of equal accuracy the one of the lowest loss is chosen.

    The weakest penalties, which take the most steps, are left out once neither accuracy nor loss gets better.
    """
    classes, validation, ranks, path = len(data.class_names), data.validation, [], []
    for one in fit_logistic_path(training.vectors, training.labels, classes, tolerance=ROUGH):
        logits = one(validation.vectors)
        path.append(one)
        ranks.append(
            (_accuracy(logits, validation.labels), -functional.cross_entropy(logits, validation.labels).item())
        )
        if all(len(ranks) - _last_best([rank[i] for rank in ranks]) > PATIENCE for i in range(2)):
            break
    best = max(range(len(path)), key=lambda index: ranks[index])
    fitted = path[best]
    if refit:
        everything = training.join(validation)
        (fitted,) = fit_logistic_path(everything.vectors, everything.labels, classes, [INVERSE_PENALTIES[best]])
    return Choice(INVERSE_PENALTIES[best], ranks[best][0], fitted(data.test.vectors), fitted)


def _last_best(values: Sequence[float]) -> int:
    """Return the index of the last of the highest values."""
    return max(range(len(values)), key=lambda index: (values[index], index))


FITS: dict[str, Fit] = {"knn": fit_knn, "logistic": fit_logistic}


def _accuracy(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(1) == labels).float().mean().item()
