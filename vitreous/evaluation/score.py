"""A number that says how sure it is: a mean over images with an interval and a direction."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

RESAMPLES, CONFIDENCE = 2000, 0.95
NUMBERS_AT_ONCE = 2**22


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
