"""Compare the predictions of two models for the same images: paired bootstrap and McNemar's test."""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import RESAMPLES, Interval, bootstrap_means, percentile_intervals
from vitreous.evaluation.report import Predictions


@dataclass(frozen=True)
class Difference:
    """A metric of the second model minus that of the first, with its paired 95 % bootstrap interval."""

    name: str
    first: float
    second: float
    value: float
    interval: Interval

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images. Both are resampled together, so the difficulty of an image cancels out.

    Attributes:
        count: Images.
        recall: For each class: the fraction of its images that are classified correctly.
        p_value: Two-sided p-value of McNemar's exact test (McNemar 1947): the probability of so uneven a split of the
            images that only one model classifies correctly, or a more uneven one, if both models are equally good.
    """

    count: int
    top1: Difference
    loss: Difference
    recall: tuple[Difference, ...]
    both_correct: int
    only_first_correct: int
    only_second_correct: int
    both_wrong: int
    p_value: float


def compare_predictions(
    first: Predictions, second: Predictions, class_names: tuple[str, ...], seed: int = 0
) -> Comparison:
    """Compare the predictions of two models for the same images, in the same order."""
    assert np.array_equal(first.labels, second.labels), "the two models must be evaluated on the same images"
    losses = np.stack([first.losses, second.losses], 1)
    (loss_interval,) = percentile_intervals(bootstrap_means(losses[:, 1:] - losses[:, :1], seed))
    means = losses.mean(0).tolist()
    loss = Difference("loss", *means, means[1] - means[0], loss_interval)
    members = [first.labels == label for label in range(len(class_names))]
    recall = [
        paired_difference(name, first.correct[mask], second.correct[mask], seed)
        for name, mask in zip(class_names, members, strict=True)
    ]
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    return Comparison(
        count=len(losses),
        top1=paired_difference("top-1", first.correct, second.correct, seed),
        loss=loss,
        recall=tuple(recall),
        both_correct=int((first.correct & second.correct).sum()),
        only_first_correct=only_first,
        only_second_correct=only_second,
        both_wrong=int((~first.correct & ~second.correct).sum()),
        p_value=mcnemar_p_value(only_first, only_second),
    )


def paired_difference(name: str, first: np.ndarray, second: np.ndarray, seed: int = 0) -> Difference:
    """Compute the difference in accuracy of two models on the same images, bool (images) each; 0 without images.

    Two images are added before resampling, one that only the first model and one that only the second classifies
    correctly (as in Bonett and Price 2012, section 2). Without them, a few images on which the models agree would give
    an interval of width 0.
    """
    count = len(first)
    lost, won = int((first & ~second).sum()) + 1, int((second & ~first).sum()) + 1
    sign = 1 if won >= lost else -1  # swapping the models then gives the mirrored interval, from the same draws
    chances = np.array([min(lost, won), max(lost, won), count + 2 - lost - won]) / (count + 2)
    drawn = np.random.default_rng(seed).multinomial(count + 2, chances, RESAMPLES)
    (interval,) = percentile_intervals(sign * (drawn[:, 1:2] - drawn[:, :1]) / (count + 2))
    accuracies = [float(each.sum() / max(count, 1)) for each in (first, second)]
    return Difference(name, *accuracies, accuracies[1] - accuracies[0], interval)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test: twice the tail of a fair binomial, at most 1.

    >>> mcnemar_p_value(1, 5)
    0.21875
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    ways, tail = 1, 0
    for chosen in range(fewer + 1):
        tail += ways
        ways = ways * (count - chosen) // (chosen + 1)
    return min(1.0, 2 * tail / 2**count)


def summarize_comparison(comparison: Comparison, first: str, second: str) -> str:
    """Write the comparison as one sentence: which model is better, by how much, and whether that is significant."""
    top1, points = comparison.top1, 100 * comparison.top1.value
    low, high = (100 * end for end in top1.interval)
    better = second
    if points < 0:
        better, points, low, high = first, -points, -high, -low
    evidence = f"(95 %: {low:.1f} to {high:.1f}), McNemar p {format_p_value(comparison.p_value)}"
    if points == 0:
        return f"{first} and {second} classify equally many images correctly {evidence}"
    if not top1.is_significant:
        return f"{better} is ahead by {points:.1f} points {evidence}: the difference is not significant"
    return f"{better} is better by {points:.1f} points {evidence}"


def format_p_value(p_value: float) -> str:
    """Format a p-value for a sentence: "= 0.21", "= 0.003", "< 0.001"."""
    if p_value < 0.001:
        return "< 0.001"
    return f"= {p_value:.2f}" if p_value >= 0.01 else f"= {p_value:.3f}"
