"""Measure how much a drawn map flickers: how much it changes where the image hardly changes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.render.temporal.scenes import SIDE, SceneChange
from vitreous.render.upsample import resize_plane


class Flicker:
    """The mean change of a drawn map from frame to frame, weighted by the stillness of the image.

    With m_t the map as drawn (0 to 1 over the color scale, on 32 x 32 cells) and w_t the stillness of the image in each
    cell, 1 / (1 + (change / 3 steps of 255)²): flicker = Σ w_t |m_t - m_(t-1)| / Σ w_t, over all cells and all frames
    but the first and those at a cut. 0 is steady; 0.01 means that on still parts the colors change by one per cent of
    the scale with every frame. Lower is better. `everywhere` is the same with all weights 1: it includes what moves, so
    it is never 0 in a moving image.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._changes = self._weights = 0.0
        self._all_changes = self._cells = 0.0

    @property
    def value(self) -> float:
        """The weighted mean change so far; NaN before there were two frames of one scene."""
        return self._changes / self._weights if self._weights else math.nan

    @property
    def everywhere(self) -> float:
        """The unweighted mean change so far; NaN before there were two frames of one scene."""
        return self._all_changes / self._cells if self._cells else math.nan

    def update(self, drawn: np.ndarray, change: SceneChange) -> None:
        """Add the next map as drawn, float (height, width) in [0, 1], and how its frame differs from the one before."""
        small = resize_plane(drawn, (SIDE, SIDE))
        if self._before is not None and not change.cut:
            changes = np.abs(small - self._before)
            self._changes += float((change.stillness * changes).sum())
            self._weights += float(change.stillness.sum())
            self._all_changes += float(changes.sum())
            self._cells += changes.size
        self._before = small


@dataclass(frozen=True)
class FlickerSummary:
    """The flicker of a video's maps, averaged over panels: (before smoothing, as drawn), both on the drawn scale.

    `still` is weighted by the stillness of the image, `everywhere` is not. All are NaN for a single frame.
    """

    still: tuple[float, float]
    everywhere: tuple[float, float]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Flicker, Flicker]]) -> "FlickerSummary":
        """Average the flicker of each panel's maps, measured before smoothing and as drawn."""
        still = np.mean([[one.value for one in pair] for pair in pairs], axis=0)
        everywhere = np.mean([[one.everywhere for one in pair] for pair in pairs], axis=0)
        return cls((float(still[0]), float(still[1])), (float(everywhere[0]), float(everywhere[1])))

    def describe(self) -> str:
        """Describe the flicker in one sentence; "" if there was only one frame."""
        if any(map(math.isnan, (*self.still, *self.everywhere))):
            return ""
        pairs = (self.still, self.everywhere)
        still, everywhere = (f"{drawn:.4f} (before smoothing {raw:.4f})" for raw, drawn in pairs)
        return f"flicker (mean change of the map per frame): {still} where the image is still, {everywhere} everywhere"
