"""Whether a model is right as often as it says: expected calibration error, and the bins of a reliability diagram."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.evaluation.intervals import CONFIDENCE, Interval, reflected, resampled_means

BINS = 15
TRIALS = 1000


LOWEST, HIGHEST = 0.05, 20.0
"""The temperatures that are tried: where all images are told right the best is 0, which is no temperature."""
HALVINGS = 60


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies above `low` and up to `high`; there is at least one."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean probability of the answers given."""
    accuracy: float
    """Share of them that are right."""


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart: 0 is perfect, lower is better."""

    error: float
    """Expected calibration error over 15 bins of equal width (Guo et al. 2017, equation 3)."""
    error_interval: Interval
    """From 0 where the error could be chance. Images are drawn again, the bins stay."""
    error_by_chance: float
    """What 95 % of perfectly calibrated models with the same confidences stay below on as many images: the error of
    finite bins is never 0, so only what is above this says something (Bröcker and Smith 2007, section 3)."""
    adaptive_error: float
    """The error over 15 bins of equally many images (Nguyen and O'Connor 2015, section 3)."""
    adaptive_error_interval: Interval
    bins: tuple[Bin, ...]
    """The bins of equal width that hold images, from low to high confidence."""


def calibration(confidence: np.ndarray, right: np.ndarray, seed: int = 0) -> Calibration:
    """Calibration of answers given with `confidence`, float (images) in 0 to 1, that were `right`, bool (images).

    >>> round(calibration(np.array([0.8, 0.8, 0.8, 0.8]), np.array([True, True, True, False])).error, 6)
    0.05
    """
    assert confidence.shape == right.shape == (right.size,) and right.size, (confidence.shape, right.shape)
    confidence, bins = np.asarray(confidence, np.float64), equal_width_bins(confidence)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, confidence, BINS), np.bincount(bins, right, BINS)
    parts = [
        Bin(i / BINS, (i + 1) / BINS, int(counts[i]), *(float(total[i] / counts[i]) for total in sums))
        for i in np.flatnonzero(counts)
    ]
    adaptive_bins = equal_count_bins(confidence)
    error, adaptive_error = (binned_error(confidence, right, each) for each in (bins, adaptive_bins))
    by_chance, adaptive_by_chance = _errors_by_chance(confidence, (bins, adaptive_bins), seed)
    drawn, adaptive_drawn = _resampled_errors(confidence - right, (bins, adaptive_bins), seed)
    return Calibration(
        error=error,
        error_interval=_interval(error, drawn, by_chance),
        error_by_chance=by_chance,
        adaptive_error=adaptive_error,
        adaptive_error_interval=_interval(adaptive_error, adaptive_drawn, adaptive_by_chance),
        bins=tuple(parts),
    )


def equal_width_bins(confidence: np.ndarray) -> np.ndarray:
    """Which of 15 bins of equal width, (0, 1/15] to (14/15, 1], each confidence falls into: int64 (images)."""
    return np.clip(np.ceil(np.asarray(confidence, np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)


def equal_count_bins(confidence: np.ndarray) -> np.ndarray:
    """Which of up to 15 bins of equally many images each falls into, by rank; equal confidences stay together."""
    ordered = np.sort(confidence)
    return np.searchsorted(ordered, confidence) * BINS // confidence.size


def binned_error(confidence: np.ndarray, right: np.ndarray, bins: np.ndarray) -> float:
    """The distance between mean confidence and accuracy of each bin, weighted by its share of the images."""
    return float(np.abs(np.bincount(bins, confidence - right)).sum() / right.size)


def _errors_by_chance(confidence: np.ndarray, several: Sequence[np.ndarray], seed: int) -> list[float]:
    """For each way of binning, the error that 95 % of perfectly calibrated models stay below."""
    random, errors = np.random.default_rng(seed), []
    for _ in range(TRIALS):
        right = random.random(confidence.size) < confidence
        errors.append([binned_error(confidence, right, bins) for bins in several])
    return np.quantile(errors, CONFIDENCE, axis=0).tolist()


def _resampled_errors(gaps: np.ndarray, several: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """For each way of binning, the error of resamples of the images, by confidence minus truth of each."""
    values = np.zeros((gaps.size, len(several), BINS))
    for way, bins in enumerate(several):
        values[np.arange(gaps.size), way, bins] = gaps
    means = resampled_means(values.reshape(gaps.size, -1), seed)
    return list(np.abs(means.reshape(len(means), len(several), BINS)).sum(2).T)


def _interval(error: float, drawn: np.ndarray, by_chance: float) -> Interval:
    """The interval of an error; what could be chance could be 0."""
    low, high = reflected(error, drawn)
    return (0.0 if error <= by_chance else low), high


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which softmax(logits / T) has the least mean cross-entropy (Guo et al. 2017, section 4.2).

    Takes logits (images, classes) and labels (images) of images that are neither learned from nor tested on.
    The cross-entropy is convex in 1 / T, so halving finds its one minimum, or the end of `LOWEST` to `HIGHEST` that
    it lies beyond.
    """
    assert len(logits) == len(labels) > 0, (logits.shape, labels.shape)
    centerd = np.asarray(logits, np.float64) - np.max(logits, 1, keepdims=True)
    truth = centerd[np.arange(len(labels)), labels]
    low, high = math.log(LOWEST), math.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        weights = np.exp(centerd / math.exp(middle))
        expected = (weights * centerd).sum(1) / weights.sum(1)
        # The slope of the cross-entropy by 1 / T: while it falls with 1 / T, the temperature is too high.
        low, high = (low, middle) if (expected - truth).mean() < 0 else (middle, high)
    return math.exp((low + high) / 2)


def is_at_limit(temperature: float) -> bool:
    """Whether a fitted temperature lies at an end of what is tried, and so isn't the best one."""
    return not 1.001 * LOWEST < temperature < HIGHEST / 1.001
