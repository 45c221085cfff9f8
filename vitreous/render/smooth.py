"""Maps of a clip smoothed over time, at map resolution and not across cuts."""

import math

import numpy as np

from vitreous.errors import InputError
from vitreous.render.enlarge import enlarged

MOVING = 0.2
"""Of the half-life: what is left of it where the picture moves."""


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

    def update(self, heat: np.ndarray, step_seconds: float, stillness: np.ndarray | None = None) -> np.ndarray:
        """Take in the next map, float (rows, columns), shown `step_seconds` after the last: float32, smoothed.

        With the picture's `stillness`, float (height, width) in [0, 1] at any resolution, the half-life is shortened
        where the picture moves, to a fifth where nothing of it stays, so that the map keeps up with what it is on.
        A map of another shape than the last begins anew.
        """
        values = np.asarray(heat, dtype=np.float32)
        if self._mean is None or self._mean.shape != values.shape or self._half_life == 0:
            self._mean = values.copy()
            return self._mean
        half_lives = np.float32(self._half_life)
        if stillness is not None:
            half_lives = half_lives * (MOVING + (1 - MOVING) * enlarged(stillness, values.shape))
        share = 1 - np.float32(0.5) ** (np.float32(max(step_seconds, 0.0)) / half_lives)
        self._mean = self._mean + share * (values - self._mean)
        return self._mean
