"""From an image's pixels to a model's and back: what the model saw, and where on the image its map belongs."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """Which part of an image a model saw, and at which size.

    Attributes:
        source_hw: (height, width) of the image in pixels.
        model_hw: (height, width) of what the model was given, in pixels.
        box: (top, left, bottom, right) of what it saw, in source pixels; with bars around the image, beyond it.
    """

    original_size: tuple[int, int]
    input_size: tuple[int, int]
    box: tuple[float, float, float, float]

    @property
    def visible_box(self) -> tuple[float, float, float, float]:
        """The (top, left, bottom, right) of the part of the image that the model saw, without bars around it."""
        (top, left, bottom, right), (height, width) = self.box, self.original_size
        return max(0.0, top), max(0.0, left), min(float(height), bottom), min(float(width), right)

    def to_image(self, heat: np.ndarray) -> np.ndarray:
        """Lay a map on the model's grid back onto the image: float32 (source height, width), 0 outside the box.

        Bilinear with half-pixel centers (a triangle as wide as the coarser of the two rasters, so that shrinking
        averages): weights are never negative and sum to 1, so the map's range and its mean are kept.

        Args:
            heat: float (grid height, grid width), any grid; it spans the box.
        """
        assert heat.ndim == 2, f"one map of (grid height, grid width), not {heat.shape}"
        top, left, bottom, right = self.box
        rows = _weights(self.original_size[0], top, bottom, heat.shape[0])
        columns = _weights(self.original_size[1], left, right, heat.shape[1])
        return (rows @ heat.astype(np.float32)) @ columns.T


@lru_cache(maxsize=16)
def _weights(pixels: int, start: float, stop: float, cells: int) -> np.ndarray:
    """How much each of `cells` equal cells between `start` and `stop` adds to each pixel: float32 (pixels, cells).

    Rows sum to 1 where the pixel's center lies between `start` and `stop`, and to 0 elsewhere.
    """
    cell = (stop - start) / cells
    centers = np.arange(pixels) + 0.5
    positions = (centers - start) / cell - 0.5  # in cells, cell 0's center at 0
    reach = max(1.0, 1.0 / cell)
    distances = np.abs(np.clip(positions, 0, cells - 1)[:, None] - np.arange(cells))
    weights = np.maximum(0.0, 1.0 - distances / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[(centers < start) | (centers >= stop)] = 0.0
    weights = weights.astype(np.float32)
    weights.setflags(write=False)  # the cache hands the same array to every caller
    return weights
