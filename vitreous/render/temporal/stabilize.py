"""What keeps a clip's image steady: one map's way from the model's grid to what is drawn, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vitreous.render.color import Scale, StabilizedScale
from vitreous.render.overlay import brightness, dimming_for
from vitreous.render.temporal.flicker import Flicker
from vitreous.render.temporal.scenes import Change
from vitreous.render.temporal.smooth import HALF_LIFE_SECONDS, MapSmoothing, without_flashes

WINDOW = 16
"""Frames that are seen together: a new scene's scale is that of those of them that belong to it."""
LEAST_WINDOW = 4
"""Of a scene: after fewer frames, its scale is taken again from the next window."""


KEPT = 0.98
"""Weight of the frames before, at each frame: dimming follows an image's brightness within a second or two."""


@dataclass(frozen=True)
class SteadyHeat:
    """One frame's map, smoothed over time, float32 of the shape it had, and the scale to draw it with."""

    heat: np.ndarray
    scale: Scale


class SteadyMap:
    """Follows one map of a clip (a method, a head, a layer): smoothed, on one scale, both begun anew at a cut.

    `flicker_before` is that of the maps as they came, `flicker_after` that of what is returned, both on its scale.
    """

    def __init__(
        self,
        smooth_seconds: float = HALF_LIFE_SECONDS,
        scale_half_life_seconds: float = 4.0,
        *,
        signed: bool = False,
    ) -> None:
        self._smoothing = MapSmoothing(smooth_seconds)
        self._scale = StabilizedScale(scale_half_life_seconds, signed=signed)
        self._half_life = smooth_seconds
        self._came: list[tuple[float, np.ndarray]] = []
        self._in_scene = 0
        self._last_seconds: float | None = None
        self._drawn: Scale | None = None
        self.flicker_before, self.flicker_after = Flicker(), Flicker()

    def update(
        self, heats: Sequence[np.ndarray], times_seconds: Sequence[float], changes: Sequence[Change]
    ) -> list[SteadyHeat]:
        """Take in the next maps, float (rows, columns), their frames' times and changes (from a `SceneWatch`).

        They are taken in windows of 16, so that it doesn't matter how many windows come at a time.
        """
        cuts = {i for i, change in enumerate(changes) if change.cut}
        starts = [*sorted({*range(0, len(heats), WINDOW), *cuts}), len(heats)]
        return [
            steady
            for first, end in pairwise(starts)
            for steady in self._window(heats[first:end], times_seconds[first:end], changes[first:end])
        ]

    def _window(
        self, heats: Sequence[np.ndarray], times_seconds: Sequence[float], changes: Sequence[Change]
    ) -> list[SteadyHeat]:
        """The frames of a window that belong to one scene."""
        if changes[0].cut:
            self._smoothing.reset()
            self._last_seconds, self._in_scene, self._came = None, 0, []
        evened = self._evened(heats, times_seconds)
        if self._in_scene < LEAST_WINDOW:
            self._drawn = self._scale.begin(evened)
        self._in_scene += len(heats)
        results = []
        for came, heat, time, change in zip(heats, evened, map(float, times_seconds), changes, strict=True):
            assert self._drawn is not None
            step = 0.0 if self._last_seconds is None else time - self._last_seconds
            smooth = self._smoothing.update(heat, step, change.stillness, self._drawn.high - self._drawn.low)
            if self._last_seconds is not None:
                self._drawn = self._scale.update(smooth, step)
            self._last_seconds = time
            results.append(SteadyHeat(smooth, self._drawn))
            self.flicker_before.update(self._drawn.apply(came), change)
            self.flicker_after.update(self._drawn.apply(smooth), change)
        return results

    def _evened(self, heats: Sequence[np.ndarray], times_seconds: Sequence[float]) -> list[np.ndarray]:
        """The maps without flashes shorter than the half-life; the last one, whose next is not known, as it came."""
        known = [*self._came, *zip(map(float, times_seconds), heats, strict=True)]
        self._came = known[-1:]
        return without_flashes(known, self._half_life)[-len(heats) :]


class SteadyColors:
    """Follows the colors of a map that is drawn in its own: smoothed as maps are, begun anew at a cut."""

    def __init__(self, smooth_seconds: float = HALF_LIFE_SECONDS) -> None:
        self._smoothing = MapSmoothing(smooth_seconds)
        self._last_seconds = 0.0

    def update(self, colors: np.ndarray, time_seconds: float, change: Change) -> np.ndarray:
        """Take in the next frame's, float (rows, columns, 3) in [0, 1], its time and change: float32, smoothed."""
        if change.cut:
            self._smoothing.reset()
        step, self._last_seconds = time_seconds - self._last_seconds, time_seconds
        return self._smoothing.update(colors, step, change.stillness, 1.0)


class SteadyDimming:
    """Follows the brightness of a clip, slowly within a scene, and says how much to dim each frame."""

    def __init__(self) -> None:
        self._bright: float | None = None

    def update(self, images: Sequence[np.ndarray], changes: Sequence[Change]) -> list[float]:
        """Take in the next frames, uint8 (height, width, 3), and how each differs from the last: their dimmings."""
        dimmings = []
        for image, change in zip(images, changes, strict=True):
            bright = brightness(image)
            if self._bright is None or change.cut:
                self._bright = bright
            self._bright = KEPT * self._bright + (1 - KEPT) * bright
            dimmings.append(dimming_for(self._bright))
        return dimmings
