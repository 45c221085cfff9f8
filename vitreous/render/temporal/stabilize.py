"""Stabilize what is drawn on a video: maps, scales, colors and dimming change smoothly within a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vitreous.render.color import Scale, StabilizedScale
from vitreous.render.overlay import dimming_for, mean_brightness
from vitreous.render.temporal.flicker import Flicker
from vitreous.render.temporal.scenes import SceneChange
from vitreous.render.temporal.smooth import HALF_LIFE_SECONDS, MapSmoother, suppress_flicker

WINDOW_FRAMES = 16
"""Frames that are stabilized together: the scale of a new scene comes from those of them that belong to it."""
MIN_WINDOW_FRAMES = 4
"""If a scene has fewer frames in its first window, its scale is computed again from the next one."""
BRIGHTNESS_DECAY = 0.98
"""Weight of the previous frames: the dimming follows the brightness within a second or two."""


@dataclass(frozen=True)
class StabilizedMap:
    """One frame's map, smoothed over time, float32 of its original shape, and the scale to draw it with."""

    heatmap: np.ndarray
    scale: Scale


class MapStabilizer:
    """Stabilizes one map of a video (a method, a head, a layer): smoothed, on one scale, both reset at a cut.

    `flicker_before` measures the original maps, `flicker_after` the stabilized ones, both on the stabilized scale.
    """

    def __init__(
        self,
        smooth_seconds: float = HALF_LIFE_SECONDS,
        scale_half_life_seconds: float = 4.0,
        *,
        signed: bool = False,
    ) -> None:
        self._smoothing = MapSmoother(smooth_seconds)
        self._scale = StabilizedScale(scale_half_life_seconds, signed=signed)
        self._half_life = smooth_seconds
        self._last_map: list[tuple[float, np.ndarray]] = []
        self._in_scene = 0
        self._last_seconds: float | None = None
        self._current_scale: Scale | None = None
        self.flicker_before, self.flicker_after = Flicker(), Flicker()

    def update(
        self, heatmaps: Sequence[np.ndarray], times_seconds: Sequence[float], changes: Sequence[SceneChange]
    ) -> list[StabilizedMap]:
        """Stabilize the next maps, given their frames' times and changes.

        They are processed in windows of 16 frames, so the result doesn't depend on how many windows come per call.

        Args:
            heatmaps: float (rows, columns) each.
            times_seconds: the time of each frame.
            changes: from a `SceneDetector`.
        """
        cuts = {i for i, change in enumerate(changes) if change.cut}
        starts = [*sorted({*range(0, len(heatmaps), WINDOW_FRAMES), *cuts}), len(heatmaps)]
        return [
            stabilized
            for first, end in pairwise(starts)
            for stabilized in self._window(heatmaps[first:end], times_seconds[first:end], changes[first:end])
        ]

    def _window(
        self, heatmaps: Sequence[np.ndarray], times_seconds: Sequence[float], changes: Sequence[SceneChange]
    ) -> list[StabilizedMap]:
        """Stabilize the frames of a window that belong to one scene."""
        if changes[0].cut:
            self._smoothing.reset()
            self._last_seconds, self._in_scene, self._last_map = None, 0, []
        deflickered = self._without_flashes(heatmaps, times_seconds)
        if self._in_scene < MIN_WINDOW_FRAMES:
            self._current_scale = self._scale.begin(deflickered)
        self._in_scene += len(heatmaps)
        results = []
        for original, heatmap, time, change in zip(
            heatmaps, deflickered, map(float, times_seconds), changes, strict=True
        ):
            assert self._current_scale is not None
            step = 0.0 if self._last_seconds is None else time - self._last_seconds
            smooth = self._smoothing.update(
                heatmap, step, change.stillness, self._current_scale.high - self._current_scale.low
            )
            if self._last_seconds is not None:
                self._current_scale = self._scale.update(smooth, step)
            self._last_seconds = time
            results.append(StabilizedMap(smooth, self._current_scale))
            self.flicker_before.update(self._current_scale.apply(original), change)
            self.flicker_after.update(self._current_scale.apply(smooth), change)
        return results

    def _without_flashes(self, heatmaps: Sequence[np.ndarray], times_seconds: Sequence[float]) -> list[np.ndarray]:
        """Remove flashes shorter than the half-life; the last map is unchanged, because its successor is not known."""
        maps = [*self._last_map, *zip(map(float, times_seconds), heatmaps, strict=True)]
        self._last_map = maps[-1:]
        return suppress_flicker(maps, self._half_life)[-len(heatmaps) :]


class ColorStabilizer:
    """Smooths the colors of a map that has colors of its own, as maps are smoothed; reset at a cut."""

    def __init__(self, smooth_seconds: float = HALF_LIFE_SECONDS) -> None:
        self._smoothing = MapSmoother(smooth_seconds)
        self._last_seconds = 0.0

    def update(self, colors: np.ndarray, time_seconds: float, change: SceneChange) -> np.ndarray:
        """Smooth the next frame's colors, float (rows, columns, 3) in [0, 1]: float32 of the same shape."""
        if change.cut:
            self._smoothing.reset()
        step, self._last_seconds = time_seconds - self._last_seconds, time_seconds
        return self._smoothing.update(colors, step, change.stillness, 1.0)


class DimmingStabilizer:
    """Follows the brightness of a video slowly within a scene, and returns how much to dim each frame."""

    def __init__(self) -> None:
        self._mean_brightness: float | None = None

    def update(self, images: Sequence[np.ndarray], changes: Sequence[SceneChange]) -> list[float]:
        """Return the dimming of the next frames, uint8 (height, width, 3), given how each differs from the last."""
        dimmings = []
        for image, change in zip(images, changes, strict=True):
            current = mean_brightness(image)
            if self._mean_brightness is None or change.cut:
                self._mean_brightness = current
            self._mean_brightness = BRIGHTNESS_DECAY * self._mean_brightness + (1 - BRIGHTNESS_DECAY) * current
            dimmings.append(dimming_for(self._mean_brightness))
        return dimmings
