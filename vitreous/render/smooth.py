"""Maps of a clip smoothed over time, at map resolution and not across cuts."""

import math

import numpy as np

from vitreous.errors import InputError


class MapSmoothing:
    """An exponential mean of a clip's maps: after `half_life_seconds` half of what a map was is gone.

    It is told the time that passes from map to map, so that neither the frame rate nor a changing one matters: what is
    seen of a step after t seconds is 1 - 2 ** (-t / half-life). A half-life of 0 returns the maps as they are.
    """

    def __init__(self, half_life_seconds: float = 0.12) -> None:
        if not 0 <= half_life_seconds < math.inf:
            raise InputError(f"a half-life of {half_life_seconds} seconds is none: give 0 for no smoothing, or more")
        self._half_life = half_life_seconds
        self._mean: np.ndarray | None = None

    def reset(self) -> None:
        """Forget what was, at a scene cut: the next map is returned as it is."""
        self._mean = None

    def update(self, heat: np.ndarray, step_seconds: float) -> np.ndarray:
        """Take in the next map, float of any shape, shown `step_seconds` after the last: float32, smoothed.

        A map of another shape than the last begins anew.
        """
        values = np.asarray(heat, dtype=np.float32)
        if self._mean is None or self._mean.shape != values.shape or self._half_life == 0:
            self._mean = values.copy()
        else:
            share = 1 - 0.5 ** (max(step_seconds, 0.0) / self._half_life)
            self._mean = self._mean + np.float32(share) * (values - self._mean)
        return self._mean
