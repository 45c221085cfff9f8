"""Smooth the maps of a video over time, at map resolution, and not across cuts."""

import math
from collections.abc import Sequence

import numpy as np

from vitreous.errors import InputError
from vitreous.render.upsample import resize_plane

HALF_LIFE_SECONDS = 0.2
RESPONSIVE_CHANGE = 0.1
"""Change, over the color scale, that is followed at twice the usual speed where the image moves."""
MAX_CHANGE = np.float32(1000)
"""Largest change over RESPONSIVE_CHANGE that counts, so that its square stays finite."""
NEIGHBORHOOD = 16
"""Sides of the image over the reach of `min_nearby`."""


class MapSmoother:
    """An exponential moving average of a video's maps that follows moving regions faster.

    After `half_life_seconds` half of the old map has decayed. Where the map differs from its mean by a fraction d of
    the color scale, and the image there moves by m (1 - its stillness), the half-life is divided by 1 + m (d / 0.1)².
    So flicker is smoothed away and a map follows a moving object at once. This is the idea of the one euro filter,
    whose cutoff rises with speed (Casiez, Roussel and Vogel, "1€ filter", CHI 2012), with distance in place of speed.
    The filter gets the time between maps, so the frame rate doesn't matter and may vary. A half-life of 0 returns the
    maps unchanged.
    """

    def __init__(self, half_life_seconds: float = HALF_LIFE_SECONDS) -> None:
        if not 0 <= half_life_seconds < math.inf:
            raise InputError(f"a half-life of {half_life_seconds} seconds is invalid: give 0 for no smoothing, or more")
        self._half_life = half_life_seconds
        self._mean: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the past, at a scene cut: the next map is returned unchanged."""
        self._mean = None

    def update(
        self, heatmap: np.ndarray, step_seconds: float, stillness: np.ndarray | None = None, span: float = math.inf
    ) -> np.ndarray:
        """Smooth the next map, float (rows, columns, ...): float32 of the same shape.

        Args:
            heatmap: the map; one of another shape than the previous one starts over.
            step_seconds: the time since the previous map.
            stillness: of the image, float (height, width) in [0, 1] at any resolution; by default all of it may move.
            span: the length of the scale that the map is drawn on, in the map's unit; by default no change is large.
        """
        values = np.asarray(heatmap, dtype=np.float32)
        if self._mean is None or self._mean.shape != values.shape or self._half_life == 0:
            self._mean = values.copy()
            return self._mean
        change = values - self._mean
        speed = np.float32(1 / self._half_life) * (1 + change_rate(change, stillness, span))
        fraction = 1 - np.float32(0.5) ** (np.float32(max(step_seconds, 0.0)) * speed)
        self._mean = self._mean + fraction * change
        return self._mean


def suppress_flicker(maps: Sequence[tuple[float, np.ndarray]], within_seconds: float) -> list[np.ndarray]:
    """Replace each map by the median of itself and its neighbors in time, which removes one-frame flashes.

    The first and the last map are unchanged, and so is a map whose neighbors are more than `within_seconds` apart.

    Args:
        maps: (time in seconds, map) pairs.
        within_seconds: the longest time between the two neighbors.
    """
    filtered = [heatmap for _, heatmap in maps]
    for i in range(1, len(maps) - 1):
        (earlier, before), (_, heatmap), (later, after) = maps[i - 1 : i + 2]
        if later - earlier <= within_seconds and before.shape == heatmap.shape == after.shape:
            filtered[i] = np.maximum(np.minimum(before, heatmap), np.minimum(np.maximum(before, heatmap), after))
    return filtered


def change_rate(change: np.ndarray, stillness: np.ndarray | None, span: float) -> np.ndarray:
    """Return how many times faster than usual, minus 1, a change (rows, columns, ...) is followed: float32."""
    unit = np.float32(RESPONSIVE_CHANGE * span)
    if not unit > 0:
        return np.zeros_like(change)
    rate = np.minimum(np.abs(change), MAX_CHANGE * unit) / unit
    rate *= rate
    if stillness is None:
        return rate
    motion = 1 - resize_plane(min_nearby(stillness), change.shape[:2])
    return rate * motion.reshape(*motion.shape, *[1] * (change.ndim - 2))


def min_nearby(stillness: np.ndarray) -> np.ndarray:
    """Return the minimum stillness near each position, up to a sixteenth of the sides away; maps extend past edges."""
    for axis in (0, 1):
        radius = stillness.shape[axis] // NEIGHBORHOOD
        padded = np.pad(stillness, [(radius, radius) if axis == one else (0, 0) for one in (0, 1)], mode="edge")
        stillness = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis).min(-1)
    return stillness
