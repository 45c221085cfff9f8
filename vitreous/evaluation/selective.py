"""Selective prediction: the accuracy if a model answers only its most confident images (risk-coverage curve)."""

from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import Interval, bootstrap, percentile_intervals, wilson_interval

COVERAGES = (0.5, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class CoveragePoint:
    """Accuracy on the most confident fraction `coverage` of the images.

    Attributes:
        accuracy_interval: For new images above the same confidence threshold.
    """

    coverage: float
    accuracy: float
    accuracy_interval: Interval


@dataclass(frozen=True)
class SelectivePrediction:
    """How well confidence separates correct from wrong predictions.

    Attributes:
        aurc: Area under the risk-coverage curve: the error rate, averaged over all coverages (Geifman and El-Yaniv
            2017, section 2; Geifman et al. 2019, equation 3). Lower is better. It lies between `aurc_optimal` and
            `aurc_random` unless confidence is misleading.
        aurc_interval: Bootstrap interval. Without any error its upper end is what random confidence could give.
        aurc_optimal: The area if every wrong prediction had lower confidence than every correct one.
        aurc_random: The area if confidence were random: the error rate.
    """

    aurc: float
    aurc_interval: Interval
    aurc_optimal: float
    aurc_random: float
    points: tuple[CoveragePoint, ...]


def measure_selective(confidence: np.ndarray, correct: np.ndarray, seed: int = 0) -> SelectivePrediction:
    """Measure selective prediction.

    Args:
        confidence: probability of each prediction, float (images).
        correct: whether each prediction is correct, bool (images).
        seed: of the bootstrap.
    """
    order, starts = sort_by_confidence(confidence)
    wrong, count = ~correct[order], correct.size
    rank = np.argsort(order)

    def risk(draws: np.ndarray) -> np.ndarray:
        return selective_risks(errors_by_rank(wrong, np.bincount(rank[draws], minlength=count), starts))

    risks = risk(np.arange(count))
    ((low, high),) = percentile_intervals(bootstrap(lambda draws: risk(draws).mean(), count, seed))
    return SelectivePrediction(
        aurc=float(risks.mean()),
        aurc_interval=(low, high if wrong.any() else wilson_interval(0, count)[1]),
        aurc_optimal=float(selective_risks(np.sort(~correct)).mean()),
        aurc_random=float(1 - correct.mean()),
        points=tuple(coverage_point(risks, coverage) for coverage in COVERAGES),
    )


def coverage_point(risks: np.ndarray, coverage: float) -> CoveragePoint:
    """Return one point of the risk-coverage curve, from the risks (images) at all coverages.

    Confidence alone selects the images; given those, the number of correct ones is binomial or less spread.
    """
    answered = max(1, round(coverage * risks.size))
    accuracy = float(1 - risks[answered - 1])
    return CoveragePoint(coverage, accuracy, wilson_interval(accuracy * answered, answered))


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute coverage and risk for the 1, 2, ... most confident images: both float64 (images).

    >>> risk_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, True, True]))[1]
    array([0.  , 0.  , 0.  , 0.25])
    """
    order, starts = sort_by_confidence(confidence)
    wrong = errors_by_rank(~correct[order], np.ones(correct.size, np.int64), starts)
    return np.arange(1, correct.size + 1) / correct.size, selective_risks(wrong)


def sort_by_confidence(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the images from most to least confident: their indexes, and where each distinct confidence starts."""
    order = np.argsort(-np.asarray(confidence), kind="stable")
    return order, np.flatnonzero(np.diff(confidence[order], prepend=np.inf))


def errors_by_rank(wrong: np.ndarray, times: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the error (0 to 1) of each resampled image, from most to least confident: float64 (resampled images).

    Images of equal confidence have no order among them; each gets the mean error of its group.

    Args:
        wrong: bool (images), from most to least confident.
        times: how often each image was resampled, int64 (images).
        starts: where each distinct confidence starts.
    """
    drawn, errors = np.add.reduceat(times, starts), np.add.reduceat(times * wrong, starts)
    return np.repeat(errors / np.maximum(drawn, 1), drawn)


def selective_risks(wrong: np.ndarray) -> np.ndarray:
    """Compute the error rate among the first 1, 2, ... all images: float64 (images)."""
    return np.cumsum(wrong) / np.arange(1, wrong.size + 1)
