"""Which of two models is better, from their answers for the same pictures: paired bootstrap and McNemar's test."""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.bootstrap import Interval, intervals, resampled, resampled_means
from vitreous.evaluation.certainty import Answers, class_values


@dataclass(frozen=True)
class Difference:
    """A value of the second model minus the first one's, with its paired bootstrap interval at 95 %."""

    name: str
    first: float
    second: float
    value: float
    interval: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Comparison:
    """Two models on the same pictures. Both are resampled together, so what makes a picture hard cancels out."""

    count: int
    top1: Difference
    loss: Difference
    recall: tuple[Difference, ...]
    """Of each class: the share of its pictures told right."""
    both_right: int
    only_first_right: int
    only_second_right: int
    both_wrong: int
    p_value: float
    """McNemar's exact test (McNemar 1947): how probable so uneven a split of the pictures that only one of the two
    tells right is, or a more uneven one, if both are equally good."""


def compare(first: Answers, second: Answers, class_names: tuple[str, ...], seed: int = 0) -> Comparison:
    """Compare the answers of two models for the same pictures, in the same order."""
    assert np.array_equal(first.labels, second.labels), "two models are compared on the same pictures"
    rights, losses = (first.right, second.right), (first.losses, second.losses)
    values = np.stack([*rights, *losses], 1).astype(np.float64)
    labels, classes = first.labels, len(class_names)
    predictions = first.predictions, second.predictions

    def recalls(draws: np.ndarray) -> np.ndarray:
        return np.concatenate([class_values(labels[draws], each[draws], classes)[:, 1] for each in predictions])

    own = np.concatenate([values.mean(0), recalls(np.arange(len(labels)))])
    drawn = np.concatenate([resampled_means(values, seed), resampled(recalls, len(labels), seed)], 1)
    pairs = [("top-1", 0, 1), ("loss", 2, 3), *((n, 4 + i, 4 + classes + i) for i, n in enumerate(class_names))]
    sure = intervals(np.stack([drawn[:, b] - drawn[:, a] for _, a, b in pairs], 1))
    top1, loss, *recall = (
        Difference(name, float(own[a]), float(own[b]), float(own[b] - own[a]), interval)
        for (name, a, b), interval in zip(pairs, sure, strict=True)
    )
    only_first, only_second = int((rights[0] & ~rights[1]).sum()), int((rights[1] & ~rights[0]).sum())
    both, neither = int((rights[0] & rights[1]).sum()), int((~rights[0] & ~rights[1]).sum())
    p_value = mcnemar(only_first, only_second)
    return Comparison(len(labels), top1, loss, tuple(recall), both, only_first, only_second, neither, p_value)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: twice the tail of a fair binomial, 1 at most.

    >>> mcnemar(1, 5)
    0.21875
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    ways, tail = 1, 0
    for place in range(fewer + 1):
        tail += ways
        ways = ways * (count - place) // (place + 1)
    return min(1.0, 2 * tail / 2**count)


def in_words(comparison: Comparison, first: str, second: str) -> str:
    """The comparison in one sentence: which is better, by how much, and how sure that is."""
    top1, points = comparison.top1, 100 * comparison.top1.value
    low, high = (100 * end for end in top1.interval)
    better = second
    if points < 0:
        better, points, low, high = first, -points, -high, -low
    sure = f"(95 %: {low:.1f} to {high:.1f}), McNemar p {p_words(comparison.p_value)}"
    if points == 0:
        return f"{first} and {second} tell equally many pictures right {sure}"
    if not top1.is_sure:
        return f"{better} is ahead by {points:.1f} points {sure}: too little to tell them apart"
    return f"{better} is better by {points:.1f} points {sure}"


def p_words(p_value: float) -> str:
    """A p-value as it is read: "= 0.21", "= 0.003", "< 0.001"."""
    if p_value < 0.001:
        return "< 0.001"
    return f"= {p_value:.2f}" if p_value >= 0.01 else f"= {p_value:.3f}"
