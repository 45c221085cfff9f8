"""Calibration of confidences: expected calibration error, reliability bins and temperature scaling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import CONFIDENCE, Interval, basic_interval, bootstrap_means

BINS = 15
TRIALS = 1000
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Range of the search. If every prediction is correct, the loss falls all the way to a temperature of 0."""
BISECTION_STEPS = 60


@dataclass(frozen=True)
class Bin:
    """The images with a confidence above `low` and up to `high`; never empty.

    Attributes:
        confidence: Mean confidence of the predictions.
        accuracy: Fraction of correct predictions.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart; 0 is perfect, lower is better.

    Attributes:
        ece: Expected calibration error over 15 bins of equal width (Guo et al. 2017, equation 3).
        ece_interval: Starts at 0 where a perfectly calibrated model could have the same error. The bins stay fixed in
            resampling.
        ece_by_chance: The error that 95 % of perfectly calibrated models with the same confidences stay below. With
            finite bins it is never 0, so only an error above it is evidence of miscalibration (Bröcker and Smith
            2007, section 3).
        adaptive_ece: The error over 15 bins of equally many images (Nguyen and O'Connor 2015, section 3).
        bins: The non-empty bins of equal width, from low to high confidence.
    """

    ece: float
    ece_interval: Interval
    ece_by_chance: float
    adaptive_ece: float
    adaptive_ece_interval: Interval
    bins: tuple[Bin, ...]


def measure_calibration(confidence: np.ndarray, correct: np.ndarray, seed: int = 0) -> Calibration:
    """Measure the calibration of predictions.

    >>> round(measure_calibration(np.array([0.8, 0.8, 0.8, 0.8]), np.array([True, True, True, False])).ece, 6)
    0.05

    Args:
        confidence: probability of each prediction, float (images) between 0 and 1.
        correct: whether each prediction is correct, bool (images).
        seed: of the bootstrap.
    """
    assert confidence.shape == correct.shape == (correct.size,) and correct.size, (confidence.shape, correct.shape)
    confidence, bins = np.asarray(confidence, np.float64), equal_width_bins(confidence)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, confidence, BINS), np.bincount(bins, correct, BINS)
    filled = [
        Bin(i / BINS, (i + 1) / BINS, int(counts[i]), *(float(total[i] / counts[i]) for total in sums))
        for i in np.flatnonzero(counts)
    ]
    adaptive_bins = equal_count_bins(confidence)
    ece, adaptive = (expected_calibration_error(confidence, correct, each) for each in (bins, adaptive_bins))
    chance, adaptive_chance = _ece_by_chance(confidence, (bins, adaptive_bins), seed)
    samples, adaptive_samples = _bootstrap_ece(confidence - correct, (bins, adaptive_bins), seed)
    return Calibration(
        ece=ece,
        ece_interval=_ece_interval(ece, samples, chance),
        ece_by_chance=chance,
        adaptive_ece=adaptive,
        adaptive_ece_interval=_ece_interval(adaptive, adaptive_samples, adaptive_chance),
        bins=tuple(filled),
    )


def equal_width_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, of 15 bins of equal width, (0, 1/15] to (14/15, 1]: int64 (images)."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


def equal_count_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, of up to 15 bins of equally many images; ties share a bin: int64 (images)."""
    ordered = np.sort(confidence)
    return np.searchsorted(ordered, confidence) * BINS // confidence.size


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: np.ndarray) -> float:
    """Average |mean confidence − accuracy| over the bins, weighted by their fraction of the images."""
    return float(np.abs(np.bincount(bins, confidence - correct)).sum() / correct.size)


def _ece_by_chance(confidence: np.ndarray, binnings: Sequence[np.ndarray], seed: int) -> list[float]:
    """Return the error that 95 % of perfectly calibrated models stay below, for each binning."""
    rng, errors = np.random.default_rng(seed), []
    for _ in range(TRIALS):
        correct = rng.random(confidence.size) < confidence
        errors.append([expected_calibration_error(confidence, correct, bins) for bins in binnings])
    return np.quantile(errors, CONFIDENCE, axis=0).tolist()


def _bootstrap_ece(gaps: np.ndarray, binnings: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Return the error of resamples of the images for each binning, from confidence minus correctness (images)."""
    values = np.zeros((gaps.size, len(binnings), BINS))
    for i, bins in enumerate(binnings):
        values[np.arange(gaps.size), i, bins] = gaps
    means = bootstrap_means(values.reshape(gaps.size, -1), seed)
    return list(np.abs(means.reshape(len(means), len(binnings), BINS)).sum(2).T)


def _ece_interval(ece: float, samples: np.ndarray, by_chance: float) -> Interval:
    """Compute the interval; an error that chance explains may be 0."""
    low, high = basic_interval(ece, samples)
    return (0.0 if ece <= by_chance else low), high


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature T that minimizes the cross-entropy of softmax(logits / T) (Guo et al. 2017, section 4.2).

    The cross-entropy is convex in 1 / T, so bisection finds its minimum, or the end of the search range.

    Args:
        logits: (images, classes), of images used neither for training nor for testing.
        labels: int64 (images).
    """
    assert len(logits) == len(labels) > 0, (logits.shape, labels.shape)
    centered = np.asarray(logits, np.float64) - np.max(logits, 1, keepdims=True)
    truth = centered[np.arange(len(labels)), labels]
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        weights = np.exp(centered / math.exp(middle))
        expected = (weights * centered).sum(1) / weights.sum(1)
        # The slope of the cross-entropy over 1 / T: while it is negative, the temperature is too high.
        low, high = (low, middle) if (expected - truth).mean() < 0 else (middle, high)
    return math.exp((low + high) / 2)


def is_at_limit(temperature: float) -> bool:
    """Return whether a fitted temperature is at an end of the search range, so that the minimum lies beyond."""
    return not 1.001 * MIN_TEMPERATURE < temperature < MAX_TEMPERATURE / 1.001
