"""How sure a share is: the Wilson score interval, which stays wide where few images agree, as resamples don't."""

from statistics import NormalDist

import numpy as np

from vitreous.evaluation.bootstrap import Interval, intervals, resampled_means
from vitreous.evaluation.score import CONFIDENCE, Score

DEVIATIONS = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


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
