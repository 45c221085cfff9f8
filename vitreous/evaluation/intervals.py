"""Estimates with 95 % confidence intervals: bootstrap for means, Wilson for proportions."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

RESAMPLES, CONFIDENCE = 2000, 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""Standard deviations of a normal distribution that the interval reaches to either side: 1.96."""
CHUNK_VALUES = 2**22
"""Values that are resampled at a time."""

Interval = tuple[float, float]
"""Lower and upper end of a 95 % confidence interval."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` images with its 95 % confidence interval, `low` to `high`.

    Attributes:
        direction: Which direction is better.
    """

    value: float
    low: float
    high: float
    n: int
    direction: Literal["higher", "lower"]

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def bootstrap_mean(values: np.ndarray, direction: Literal["higher", "lower"], seed: int = 0) -> Estimate:
    """Compute the mean of one value per image, float (images), with its percentile bootstrap interval (Efron 1979).

    >>> estimate = bootstrap_mean(np.array([0.0, 1.0, 1.0, 1.0]), "higher")
    >>> estimate.value, estimate.n, estimate.low < 0.75 < estimate.high
    (0.75, 4, True)
    """
    values = np.asarray(values, np.float64)
    assert values.ndim == 1 and values.size and np.isfinite(values).all(), "one finite value per image"
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK_VALUES // values.size)
    means = [
        values[rng.integers(0, values.size, (min(rows, RESAMPLES - done), values.size))].mean(1)
        for done in range(0, RESAMPLES, rows)
    ]
    ((low, high),) = percentile_intervals(np.concatenate(means)[:, None])
    return Estimate(float(values.mean()), low, high, values.size, direction)


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], count: int, seed: int = 0) -> np.ndarray:
    """Compute a statistic of `count` images for 2000 resamples of them: float64 (resamples, values).

    The same count and seed give the same resamples, so statistics that are resampled apart stay paired.

    Args:
        statistic: takes the indexes of the resampled images, int64 (count), and returns one or more values.
        count: number of images.
        seed: of the resamples.
    """
    assert count > 0, "no images to resample"
    rng = np.random.default_rng(seed)
    return np.stack([np.atleast_1d(statistic(rng.integers(0, count, count))) for _ in range(RESAMPLES)])


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Compute the column means of values (images, columns) for 2000 resamples: float64 (resamples, columns)."""
    count, values = len(values), np.asarray(values, np.float64)
    return bootstrap(lambda draws: np.bincount(draws, minlength=count) @ values / count, count, seed)


def percentile_intervals(samples: np.ndarray) -> list[Interval]:
    """Return the middle 95 % of each column of samples (resamples, columns).

    Where all images have the same value, every resample is equal and the interval is a single point. For a proportion,
    use `wilson_interval`, which does not collapse.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def basic_interval(value: float, samples: np.ndarray) -> Interval:
    """Compute the basic bootstrap interval of a statistic that is never negative, from its resamples (resamples).

    Noise only raises such a statistic, for example a sum of distances. Resamples contain the noise twice, so their
    percentiles are too high; the basic interval mirrors them at the measured value (Davison and Hinkley 1997,
    equation 5.6). The value always lies inside.
    """
    ((low, high),) = percentile_intervals(samples[:, None])
    return min(value, max(0.0, 2 * value - high)), max(value, 2 * value - low)


def wilson_interval(hits: float, count: float) -> Interval:
    """Compute the Wilson interval of the proportion `hits` / `count`; (0, 1) for a count of 0.

    It contains all p with |hits / count − p| ≤ z √(p (1 − p) / count), z = 1.96 (Wilson 1927, equation 1).

    >>> [tuple(round(end, 3) for end in wilson_interval(*pair)) for pair in ((5, 5), (9186, 10_000), (0, 0))]
    [(0.566, 1.0), (0.913, 0.924), (0.0, 1.0)]
    """
    assert 0 <= hits <= count, (hits, count)
    squared = Z**2
    center = hits + squared / 2
    reach = Z * (hits * (count - hits) / max(count, 1) + squared / 4) ** 0.5
    low, high = (center - reach) / (count + squared), (center + reach) / (count + squared)
    return 0.0 if hits == 0 else low, 1.0 if hits == count else high  # exact, without a rounding error


def f1_interval(correct: int, truths: int, predicted: int) -> Interval:
    """Compute the interval of an F1 score.

    F1 = 2 s / (1 + s) rises with s, the proportion of correct images among those that have the class as label or
    prediction. So its ends are those of the Wilson interval of s.

    Args:
        correct: images of the class that are predicted as such.
        truths: images whose label is the class.
        predicted: images whose prediction is the class.
    """
    low, high = wilson_interval(correct, truths + predicted - correct)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def proportions(hits: np.ndarray, seed: int = 0) -> list[Estimate]:
    """Compute the mean of each column of hits (images, columns), each 0 to 1, with its interval.

    Columns of 0 and 1 get the Wilson interval. Columns that hold the mean of several trials per image get the
    bootstrap interval.
    """
    hits = np.asarray(hits, np.float64)
    count, means = len(hits), hits.mean(0).tolist()
    binary = ((hits == 0) | (hits == 1)).all(0)
    resampled = iter(percentile_intervals(bootstrap_means(hits[:, ~binary], seed)))
    intervals = [
        wilson_interval(total, count) if is_binary else next(resampled)
        for is_binary, total in zip(binary, hits.sum(0).tolist(), strict=True)
    ]
    return [Estimate(mean, *interval, count, "higher") for mean, interval in zip(means, intervals, strict=True)]


def bootstrap_draws(hits: np.ndarray, seed: int = 0) -> Estimate:
    """Compute the mean of hits (images, draws), with an interval for other images and other draws.

    Both are resampled, by the pigeonhole bootstrap (Owen 2007), which errs on the side of a wide interval. Where draws
    hardly differ or images are few, it can be too narrow, so the interval is at least Wilson's of as many images.

    >>> estimate = bootstrap_draws(np.eye(4)[:, :3])
    >>> estimate.value, estimate.n
    (0.25, 4)
    """
    images, draws = hits.shape
    values, rng = np.asarray(hits, np.float64), np.random.default_rng(seed)
    counts = rng.multinomial(draws, np.full(draws, 1 / draws), RESAMPLES)
    by_image = counts @ values.T / draws
    means = [
        (by_image[i] * np.bincount(rng.integers(0, images, images), minlength=images)).mean() for i in range(RESAMPLES)
    ]
    interval = _widened(percentile_intervals(np.array(means)[:, None])[0], values.mean(), images)
    return Estimate(float(values.mean()), *interval, images, "higher")


def bootstrap_class_mean(hits: np.ndarray, labels: np.ndarray, seed: int = 0) -> Estimate:
    """Compute the mean over classes of the mean of hits (images), with its bootstrap interval.

    A class without images in a resample is left out of it. The interval is at least Wilson's of as many images as would
    give the mean of all images the same variance: K² / Σ 1 / n of K classes, so of all images if classes are equally
    large.

    >>> bootstrap_class_mean(np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1])).value
    0.5
    """
    values, classes = np.asarray(hits, np.float64), int(labels.max()) + 1

    def class_mean(draws: np.ndarray) -> np.ndarray:
        counts = np.bincount(labels[draws], minlength=classes)
        sums = np.bincount(labels[draws], values[draws], minlength=classes)
        return (sums[counts > 0] / counts[counts > 0]).mean()

    value, counts = float(class_mean(np.arange(len(values)))), np.unique(labels, return_counts=True)[1]
    resampled = percentile_intervals(bootstrap(class_mean, len(values), seed))[0]
    return Estimate(value, *_widened(resampled, value, len(counts) ** 2 / (1 / counts).sum()), len(values), "higher")


def _widened(interval: Interval, proportion: float, count: float) -> Interval:
    """Return an interval that holds `interval` and Wilson's of a proportion of `count` images.

    Resamples of images that are all alike are alike, so that a bootstrap interval of them is a single point.
    """
    low, high = wilson_interval(proportion * count, count)
    return float(min(low, interval[0])), float(max(high, interval[1]))
