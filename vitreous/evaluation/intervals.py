"""A number that says how sure it is: a mean over images with an interval and a direction."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

RESAMPLES, CONFIDENCE = 2000, 0.95
NUMBERS_AT_ONCE = 2**22


Interval = tuple[float, float]
"""From where to where a number lies at 95 %."""


DEVIATIONS = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Score:
    """A measured mean. `low` to `high` is its interval at 95 %; `n` is how many images it is a mean of."""

    value: float
    low: float
    high: float
    n: int
    direction: Literal["higher", "lower"]
    """Which way is better."""


def mean_score(values: np.ndarray, direction: Literal["higher", "lower"], seed: int = 0) -> Score:
    """The mean of one value an image, float (images), with its percentile bootstrap interval (Efron 1979).

    >>> score = mean_score(np.array([0.0, 1.0, 1.0, 1.0]), "higher")
    >>> score.value, score.n, score.low < 0.75 < score.high
    (0.75, 4, True)
    """
    values = np.asarray(values, np.float64)
    assert values.ndim == 1 and values.size and np.isfinite(values).all(), "one finite value an image"
    random = np.random.default_rng(seed)
    rows = max(1, NUMBERS_AT_ONCE // values.size)
    means = [
        values[random.integers(0, values.size, (min(rows, RESAMPLES - done), values.size))].mean(1)
        for done in range(0, RESAMPLES, rows)
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Score(float(values.mean()), float(low), float(high), values.size, direction)


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


def wilson(hits: float, count: int) -> Interval:
    """Where the share of which `hits` of `count` images were seen lies at 95 %; of no images, anywhere in 0 to 1.

    The shares p with |hits / count − p| ≤ z √(p (1 − p) / count), z = 1.96 (Wilson 1927, equation 1).

    >>> [tuple(round(end, 3) for end in wilson(*pair)) for pair in ((5, 5), (9186, 10_000), (0, 0))]
    [(0.566, 1.0), (0.913, 0.924), (0.0, 1.0)]
    """
    assert 0 <= hits <= count, (hits, count)
    squared = DEVIATIONS**2
    center = hits + squared / 2
    reach = DEVIATIONS * (hits * (count - hits) / max(count, 1) + squared / 4) ** 0.5
    low, high = (center - reach) / (count + squared), (center + reach) / (count + squared)
    return 0.0 if hits == 0 else low, 1.0 if hits == count else high  # not a rounding error beside them


def f1_interval(right: int, truths: int, predicted: int) -> Interval:
    """The interval of an F1 score, from the images told right, those of the class, and those taken for it.

    F1 is 2 s / (1 + s) of the share s told right of all images that are of the class or taken for it, and rises with
    it; so the ends are those of that share.
    """
    low, high = wilson(right, truths + predicted - right)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def shares(hits: np.ndarray, seed: int = 0) -> list[Score]:
    """The mean of each column of hits (images, columns), 0 to 1 and higher is better, with its interval.

    Columns of only 0 and 1 have Wilson's; of means over several tries of an image, that of the bootstrap.
    """
    hits = np.asarray(hits, np.float64)
    count, means = len(hits), hits.mean(0).tolist()
    plain = ((hits == 0) | (hits == 1)).all(0)
    drawn = iter(intervals(resampled_means(hits[:, ~plain], seed)))
    sure = [
        wilson(total, count) if one else next(drawn) for one, total in zip(plain, hits.sum(0).tolist(), strict=True)
    ]
    return [Score(mean, *interval, count, "higher") for mean, interval in zip(means, sure, strict=True)]
