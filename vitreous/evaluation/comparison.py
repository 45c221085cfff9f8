"""Which of two models is better, from their answers for the same images: paired bootstrap and McNemar's test."""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import RESAMPLES, Interval, bootstrap_means, percentile_intervals
from vitreous.evaluation.report import Predictions


@dataclass(frozen=True)
class Difference:
    """A value of the second model minus the first one's, with its paired bootstrap interval at 95 %.

    Of a share, with two images added to those that are drawn (see `share_difference`).
    """

    name: str
    first: float
    second: float
    value: float
    interval: Interval

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images. Both are resampled together, so what makes an image hard cancels out."""

    count: int
    top1: Difference
    loss: Difference
    recall: tuple[Difference, ...]
    """Of each class: the share of its images told right."""
    both_correct: int
    only_first_correct: int
    only_second_correct: int
    both_wrong: int
    p_value: float
    """McNemar's exact test (McNemar 1947): how probable so uneven a split of the images that only one of the two
    tells right is, or a more uneven one, if both are equally good."""


def compare_predictions(
    first: Predictions, second: Predictions, class_names: tuple[str, ...], seed: int = 0
) -> Comparison:
    """Compare the answers of two models for the same images, in the same order."""
    assert np.array_equal(first.labels, second.labels), "two models are compared on the same images"
    rights, losses = (first.correct, second.correct), np.stack([first.losses, second.losses], 1)
    (loss_interval,) = percentile_intervals(bootstrap_means(losses[:, 1:] - losses[:, :1], seed))
    own = losses.mean(0).tolist()
    loss = Difference("loss", *own, own[1] - own[0], loss_interval)
    of_class = [first.labels == label for label in range(len(class_names))]
    recall = [
        paired_difference(name, rights[0][mine], rights[1][mine], seed)
        for name, mine in zip(class_names, of_class, strict=True)
    ]
    only_first, only_second = int((rights[0] & ~rights[1]).sum()), int((rights[1] & ~rights[0]).sum())
    both, neither = int((rights[0] & rights[1]).sum()), int((~rights[0] & ~rights[1]).sum())
    top1, p_value = paired_difference("top-1", *rights, seed), mcnemar_p_value(only_first, only_second)
    return Comparison(len(losses), top1, loss, tuple(recall), both, only_first, only_second, neither, p_value)


def paired_difference(name: str, first: np.ndarray, second: np.ndarray, seed: int = 0) -> Difference:
    """How much more of some images the second model tells right: bool (images) each; 0 of none.

    Two images are added to those that are drawn again, one that only the first and one that only the second tells
    right (as Bonett and Price 2012, section 2, for a formula), so that few images that agree aren't taken for proof.
    """
    count = len(first)
    lost, won = int((first & ~second).sum()) + 1, int((second & ~first).sum()) + 1
    sign = 1 if won >= lost else -1  # the draws are the same whichever model comes first
    chances = np.array([min(lost, won), max(lost, won), count + 2 - lost - won]) / (count + 2)
    drawn = np.random.default_rng(seed).multinomial(count + 2, chances, RESAMPLES)
    (interval,) = percentile_intervals(sign * (drawn[:, 1:2] - drawn[:, :1]) / (count + 2))
    own = [float(each.sum() / max(count, 1)) for each in (first, second)]
    return Difference(name, *own, own[1] - own[0], interval)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
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


def summarize_comparison(comparison: Comparison, first: str, second: str) -> str:
    """The comparison in one sentence: which is better, by how much, and how sure that is."""
    top1, points = comparison.top1, 100 * comparison.top1.value
    low, high = (100 * end for end in top1.interval)
    better = second
    if points < 0:
        better, points, low, high = first, -points, -high, -low
    sure = f"(95 %: {low:.1f} to {high:.1f}), McNemar p {format_p_value(comparison.p_value)}"
    if points == 0:
        return f"{first} and {second} tell equally many images right {sure}"
    if not top1.is_significant:
        return f"{better} is ahead by {points:.1f} points {sure}: too little to tell them apart"
    return f"{better} is better by {points:.1f} points {sure}"


def format_p_value(p_value: float) -> str:
    """A p-value as it is read: "= 0.21", "= 0.003", "< 0.001"."""
    if p_value < 0.001:
        return "< 0.001"
    return f"= {p_value:.2f}" if p_value >= 0.01 else f"= {p_value:.3f}"
