"""How much the overlay dims a clip's frames: less where they are dark, and alike from frame to frame."""

from collections.abc import Sequence

import numpy as np

from vitreous.render.overlay import brightness, dimming_for
from vitreous.render.scenes import Change

KEPT = 0.98
"""Weight of the frames before, at each frame: dimming follows an image's brightness within a second or two."""


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
