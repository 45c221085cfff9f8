"""Maps of a clip smoothed over time, at map resolution and not across cuts."""

import math
from collections.abc import Sequence

import numpy as np

from vitreous.errors import InputError
from vitreous.render.upsample import resize_plane

HALF_LIFE_SECONDS = 0.2
NOTABLE = 0.1
"""Of the color scale: the change that is followed at twice the usual speed where the image moves."""
MOST = np.float32(1000)
NEAR = 16


class MapSmoothing:
    """An exponential mean of a clip's maps that stands still where the image does, and keeps up with what moves.

    After `half_life_seconds` half of what a map was is gone; where it differs from its mean by a share d of the color
    scale, and the image there moves by m (1 - its stillness), after 1 / (1 + m (d / 0.1)²) of that. So flicker is
    evened out, and what goes with an object follows it at once: the one euro filter's idea, a cutoff that rises with
    speed (Casiez, Roussel and Vogel, "1€ filter", CHI 2012), with the distance in place of the speed. It is told the
    time from map to map, so that neither the frame rate nor a changing one matters. A half-life of 0 returns the maps
    as they are.
    """

    def __init__(self, half_life_seconds: float = HALF_LIFE_SECONDS) -> None:
        if not 0 <= half_life_seconds < math.inf:
            raise InputError(f"a half-life of {half_life_seconds} seconds is none: give 0 for no smoothing, or more")
        self._half_life = half_life_seconds
        self._mean: np.ndarray | None = None

    def reset(self) -> None:
        """Forget what was, at a scene cut: the next map is returned as it is."""
        self._mean = None

    def update(
        self, heat: np.ndarray, step_seconds: float, stillness: np.ndarray | None = None, span: float = math.inf
    ) -> np.ndarray:
        """Take in the next map, float (rows, columns, ...), shown `step_seconds` after the last: float32, smoothed.

        `stillness` is the image's, float (height, width) in [0, 1] at any resolution; without it all of it may move.
        `span` is the length of the scale that the map is drawn on, in the map's unit; without it no change is great.
        A map of another shape than the last begins anew.
        """
        values = np.asarray(heat, dtype=np.float32)
        if self._mean is None or self._mean.shape != values.shape or self._half_life == 0:
            self._mean = values.copy()
            return self._mean
        change = values - self._mean
        speed = np.float32(1 / self._half_life) * (1 + urgency(change, stillness, span))
        share = 1 - np.float32(0.5) ** (np.float32(max(step_seconds, 0.0)) * speed)
        self._mean = self._mean + share * change
        return self._mean


def without_flashes(maps: Sequence[tuple[float, np.ndarray]], within_seconds: float) -> list[np.ndarray]:
    """Maps (each with its time) of one shape, every one the median of itself and its neighbors: no one-frame flashes.

    The first and the last stay, and each whose neighbors are more than `within_seconds` apart.
    """
    evened = [heat for _, heat in maps]
    for i in range(1, len(maps) - 1):
        (earlier, before), (_, heat), (later, after) = maps[i - 1 : i + 2]
        if later - earlier <= within_seconds and before.shape == heat.shape == after.shape:
            evened[i] = np.maximum(np.minimum(before, heat), np.minimum(np.maximum(before, heat), after))
    return evened


def urgency(change: np.ndarray, stillness: np.ndarray | None, span: float) -> np.ndarray:
    """How many times faster than usual, less 1, a map's change (rows, columns, ...) is followed: float32, its shape."""
    unit = np.float32(NOTABLE * span)
    if not unit > 0:
        return np.zeros_like(change)
    urgent = np.minimum(np.abs(change), MOST * unit) / unit
    urgent *= urgent
    if stillness is None:
        return urgent
    motion = 1 - resize_plane(around(stillness), change.shape[:2])
    return urgent * motion.reshape(*motion.shape, *[1] * (change.ndim - 2))


def around(stillness: np.ndarray) -> np.ndarray:
    """The least stillness near each place, up to a sixteenth of the sides away: maps reach over what they are on."""
    for axis in (0, 1):
        reach = stillness.shape[axis] // NEAR
        padded = np.pad(stillness, [(reach, reach) if axis == one else (0, 0) for one in (0, 1)], mode="edge")
        stillness = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis).min(-1)
    return stillness
