"""How sure a number is: the same number of images drawn again with replacement (percentile bootstrap, Efron 1979)."""

from collections.abc import Callable

import numpy as np

from vitreous.evaluation.score import CONFIDENCE, RESAMPLES

Interval = tuple[float, float]
"""From where to where a number lies at 95 %."""


def resampled(statistic: Callable[[np.ndarray], np.ndarray], count: int, seed: int = 0) -> np.ndarray:
    """What a statistic of `count` images gives for 2000 resamples of them: float64 (resamples, numbers).

    `statistic` takes the indexes of the images drawn, int64 (count), and gives one or more numbers. The draws are the
    same for the same count and seed, so numbers that are resampled together vary together.
    """
    assert count > 0, "no images to draw from"
    random = np.random.default_rng(seed)
    return np.stack([np.atleast_1d(statistic(random.integers(0, count, count))) for _ in range(RESAMPLES)])


def resampled_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """The means of numbers (images, numbers) over 2000 resamples of the images: float64 (resamples, numbers)."""
    count, numbers = len(values), np.asarray(values, np.float64)
    return resampled(lambda draws: np.bincount(draws, minlength=count) @ numbers / count, count, seed)


def intervals(samples: np.ndarray) -> list[Interval]:
    """The middle 95 % of each column of samples (resamples, numbers).

    Where all images agree, as when each is told right, there is nothing to resample and the interval is a point:
    shares have that of `share.wilson`.
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def reflected(own: float, samples: np.ndarray) -> Interval:
    """The middle 95 % of samples (resamples), mirrored at a measured value that is 0 or more: the basic bootstrap.

    For a value that noise only ever raises, as a sum of distances: resamples have that noise twice, so they lie too
    high by as much as the value itself (Davison and Hinkley 1997, equation 5.6). The value stays inside.
    """
    ((low, high),) = intervals(samples[:, None])
    return min(own, max(0.0, 2 * own - high)), max(own, 2 * own - low)
