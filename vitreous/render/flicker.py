"""How much a drawn map flickers: its changes where the picture itself hardly changes."""

import math

import numpy as np

from vitreous.render.enlarge import enlarged
from vitreous.render.scenes import SIDE, Change


class Flicker:
    """The mean change of a drawn map from frame to frame, weighted by how still the picture is there.

    With m_t the map as drawn (0 to 1 over the colour scale, on 32 x 32 cells) and w_t the stillness of the picture in
    each cell, 1 / (1 + (change / 3 steps of 255)²): flicker = Σ w_t |m_t - m_(t-1)| / Σ w_t over all cells and frames
    but the first and those at a cut. 0 is steady; 0.01 means that where nothing moves the colours jump by one per cent
    of the scale with every frame. Lower is better.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._changes = self._weights = 0.0

    @property
    def value(self) -> float:
        """The figure so far; not a number before there were two frames of one scene."""
        return self._changes / self._weights if self._weights else math.nan

    def update(self, drawn: np.ndarray, change: Change) -> None:
        """Take in the next map as drawn, float (height, width) in [0, 1], and how its frame differs from the last."""
        small = enlarged(drawn, (SIDE, SIDE))
        if self._before is not None:
            self._changes += float((change.stillness * np.abs(small - self._before)).sum())
            self._weights += float(change.stillness.sum())
        self._before = small
