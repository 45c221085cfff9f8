"""Statistics of maps, in float64 with one row per image: areas under curves, correlations and paired comparisons."""

from typing import Literal

import numpy as np

from vitreous.evaluation.intervals import Estimate, bootstrap_mean

MIN_IMAGES = 32
"""With fewer images nothing is claimed, as bootstrap intervals of few images are too narrow. Of methods as good as the
baseline, a fraction of 0.06 was found better on 6 images, 0.07 on 8, 0.05 on 16 and 0.03 on 64; it should be 0.025."""


def area_under_curve(fractions: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Integrate each curve (images, points) over fractions (points) from 0 to 1, by trapezoids: (images).

    >>> area_under_curve(np.array([0.0, 0.5, 1.0]), np.array([[0.0, 1.0, 1.0]]))
    array([0.75])
    """
    assert fractions[0] == 0 and fractions[-1] == 1 and curves.shape[1:] == fractions.shape, (fractions, curves.shape)
    curves = np.asarray(curves, np.float64)
    return ((curves[:, 1:] + curves[:, :-1]) / 2 * np.diff(fractions)).sum(1)


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value in its row, from 0; tied values get their mean rank. The shape is the same.

    >>> ranks(np.array([[3.0, 1.0, 3.0]]))
    array([[1.5, 0. , 1.5]])
    """
    values = np.asarray(values, np.float64)
    result = np.empty(values.shape)
    for row, ranked in zip(values, result, strict=True):
        _, index, count = np.unique(row, return_inverse=True, return_counts=True)
        ranked[:] = (np.cumsum(count) - (count + 1) / 2)[index]
    return result


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each pair of rows (images, values): (images); 0 for a constant row."""
    first, second = _standardize(first), _standardize(second)
    return (first * second).sum(1).clip(-1, 1)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of each pair of rows (images, values): (images); 0 for a constant row."""
    return correlation(ranks(first), ranks(second))


def sort_patches(maps: np.ndarray, tie_breakers: np.ndarray) -> np.ndarray:
    """Sort the patches of each map from most to least relevant: int64 (images, patches).

    Both arrays are (images, patches). Random tie breakers decide between equal patches; without them, a constant map
    would be sorted in reading order.
    """
    assert maps.shape == tie_breakers.shape, (maps.shape, tie_breakers.shape)
    return np.lexsort((tie_breakers, -np.asarray(maps, np.float64)), axis=-1)


def is_better(values: np.ndarray, baseline: np.ndarray, direction: Literal["higher", "lower"]) -> bool:
    """Return whether values (images) are significantly better than those of a baseline for the same images.

    The bootstrap interval of the mean paired difference must exclude 0.
    """
    gain = improvement(values, baseline, direction)
    return gain.n >= MIN_IMAGES and gain.low > 0


def improvement(values: np.ndarray, baseline: np.ndarray, direction: Literal["higher", "lower"]) -> Estimate:
    """Estimate by how much values (images) are better than those of a baseline for the same images."""
    sign = 1 if direction == "higher" else -1
    return bootstrap_mean(sign * (np.asarray(values, np.float64) - np.asarray(baseline, np.float64)), "higher")


def _standardize(values: np.ndarray) -> np.ndarray:
    """Shift each row to mean 0 and scale it to norm 1; a row that is constant up to rounding becomes zeros."""
    values = np.asarray(values, np.float64)
    centered = values - values.mean(1, keepdims=True)
    norm = np.linalg.norm(centered, axis=1, keepdims=True)
    rounding = 1e-12 * np.abs(values).max(1, keepdims=True) * values.shape[1] ** 0.5
    return np.where(norm > rounding, centered / np.where(norm > 0, norm, 1), 0)
