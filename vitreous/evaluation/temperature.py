"""Temperature scaling: one number that makes a model's probabilities honest and changes no answer."""

import math

import numpy as np

LOWEST, HIGHEST = 0.05, 20.0
"""The temperatures that are tried: where all images are told right the best is 0, which is no temperature."""
HALVINGS = 60


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
