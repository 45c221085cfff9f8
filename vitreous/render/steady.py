"""What keeps a clip's picture steady: one map's way from the model's grid to what is drawn, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vitreous.render.color import Scale, SteadyScale
from vitreous.render.flicker import Flicker
from vitreous.render.scenes import Change
from vitreous.render.smooth import MapSmoothing


@dataclass(frozen=True)
class SteadyHeat:
    """One frame's map, smoothed over time, float32 of the shape it had, and the scale to draw it with."""

    heat: np.ndarray
    scale: Scale


class SteadyMap:
    """Follows one map of a clip (a method, a head, a layer): smoothed, on one scale, both begun anew at a cut.

    `flicker_before` is that of the maps as they came, each on its own scale; `flicker_after` that of what is returned.
    """

    def __init__(
        self, smooth_seconds: float = 0.12, scale_half_life_seconds: float = 4.0, *, signed: bool = False
    ) -> None:
        self._smoothing = MapSmoothing(smooth_seconds)
        self._scale = SteadyScale(scale_half_life_seconds, signed=signed)
        self._signed = signed
        self._last_seconds: float | None = None
        self.flicker_before, self.flicker_after = Flicker(), Flicker()

    def update(
        self, heats: Sequence[np.ndarray], times_seconds: Sequence[float], changes: Sequence[Change]
    ) -> list[SteadyHeat]:
        """Take in the next batch of maps, float (rows, columns), their frames' times and changes (from a `SceneWatch`).

        The frames of a batch up to the next cut are the window that a new scene's scale is taken from.
        """
        starts = [0, *(i for i, change in enumerate(changes) if change.cut and i), len(heats)]
        return [
            steady
            for first, end in pairwise(starts)
            for steady in self._scene(heats[first:end], times_seconds[first:end], changes[first:end])
        ]

    def _scene(
        self, heats: Sequence[np.ndarray], times_seconds: Sequence[float], changes: Sequence[Change]
    ) -> list[SteadyHeat]:
        """The frames of a batch that belong to one scene."""
        begins = bool(heats) and (self._last_seconds is None or changes[0].cut)
        if begins:
            self._smoothing.reset()
        results = []
        for i, (heat, time) in enumerate(zip(heats, map(float, times_seconds), strict=True)):
            step = time - (time if self._last_seconds is None else self._last_seconds)
            self._last_seconds = time
            smooth = self._smoothing.update(heat, step, changes[i].stillness)
            scale = self._scale.begin(heats) if begins and not i else self._scale.update(smooth, step)
            results.append(SteadyHeat(smooth, scale))
            self.flicker_before.update(Scale.fitting(heat, signed=self._signed).apply(heat), changes[i])
            self.flicker_after.update(scale.apply(smooth), changes[i])
        return results
