"""How well an order of patches agrees with a model's answers: areas, correlations of ranks, and paired comparisons.

Everything is float64 and one row an image; what can't be told (a constant has no correlation) counts as none: 0.
"""

from typing import Literal

import numpy as np

from vitreous.evaluation.intervals import Estimate, bootstrap_mean

FEWEST_IMAGES = 32
"""Of fewer, nothing is claimed: bootstrap intervals of few images are too narrow. Of methods as good as the baseline
a share of 0.06 was found better of 6 images, 0.07 of 8, 0.05 of 16 and 0.03 of 64, where it should be 0.025."""


def area(shares: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """The area under each curve (images, points) over the shares (points) from 0 to 1: (images), by trapezoids.

    >>> area(np.array([0.0, 0.5, 1.0]), np.array([[0.0, 1.0, 1.0]]))
    array([0.75])
    """
    assert shares[0] == 0 and shares[-1] == 1 and curves.shape[1:] == shares.shape, (shares, curves.shape)
    curves = np.asarray(curves, np.float64)
    return ((curves[:, 1:] + curves[:, :-1]) / 2 * np.diff(shares)).sum(1)


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value in its row, from 0; equal values share the mean of theirs. Same shape.

    >>> ranks(np.array([[3.0, 1.0, 3.0]]))
    array([[1.5, 0. , 1.5]])
    """
    values = np.asarray(values, np.float64)
    result = np.empty(values.shape)
    for row, ranked in zip(values, result, strict=True):
        _, place, count = np.unique(row, return_inverse=True, return_counts=True)
        ranked[:] = (np.cumsum(count) - (count + 1) / 2)[place]
    return result


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row of one with the same row of the other, (images, numbers): (images)."""
    first, second = _standard(first), _standard(second)
    return (first * second).sum(1).clip(-1, 1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of one with the same row of the other, (images, numbers): (images)."""
    return correlation(ranks(first), ranks(second))


def most_relevant_first(maps: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """Each map's patches, the greatest value first: int64 (images, patches); between equal ones `lots` decides.

    Both are (images, patches). Without lots, a flat map would follow the order of reading, which is no lot.
    """
    assert maps.shape == lots.shape, (maps.shape, lots.shape)
    return np.lexsort((lots, -np.asarray(maps, np.float64)), axis=-1)


def is_better(values: np.ndarray, baseline: np.ndarray, direction: Literal["higher", "lower"]) -> bool:
    """Whether values (images) are better than a baseline's of the same images by more than chance.

    That is: the bootstrap interval of the mean of the paired differences lies on the better side of 0.
    """
    gain = gain_over(values, baseline, direction)
    return gain.n >= FEWEST_IMAGES and gain.low > 0


def gain_over(values: np.ndarray, baseline: np.ndarray, direction: Literal["higher", "lower"]) -> Estimate:
    """By how much values (images) are better than a baseline's of the same images; above 0 is better."""
    sign = 1 if direction == "higher" else -1
    return bootstrap_mean(sign * (np.asarray(values, np.float64) - np.asarray(baseline, np.float64)), "higher")


def _standard(values: np.ndarray) -> np.ndarray:
    """Each row shifted to mean 0 and scaled to length 1; a row that is constant up to rounding becomes zeros."""
    values = np.asarray(values, np.float64)
    centerd = values - values.mean(1, keepdims=True)
    length = np.linalg.norm(centerd, axis=1, keepdims=True)
    rounding = 1e-12 * np.abs(values).max(1, keepdims=True) * values.shape[1] ** 0.5
    return np.where(length > rounding, centerd / np.where(length > 0, length, 1), 0)
