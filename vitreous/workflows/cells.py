"""Patches as squares on the picture that they were cut from."""

import numpy as np

from vitreous.data.preprocessing import Geometry
from vitreous.explanation.targets import Region


def cells(grid: np.ndarray, geometry: Geometry, outside: float | None = None) -> np.ndarray:
    """A grid (rows, columns) on the picture's pixels, each patch in one value: float32 (height, width).

    Where the model saw nothing, it is `outside`, by default the least of the grid.
    """
    top, left, bottom, right = geometry.box
    heat = np.full(geometry.source_hw, float(grid.min()) if outside is None else outside, np.float32)
    sides = ((top, bottom, grid.shape[0]), (left, right, grid.shape[1]))
    rows, columns = (
        np.clip((np.arange(int(start), int(stop)) + 0.5 - start) / (stop - start) * count, 0, count - 1).astype(int)
        for start, stop, count in sides
    )
    heat[int(top) : int(bottom), int(left) : int(right)] = grid[rows][:, columns]
    return heat


def covered(region: Region, geometry: Geometry) -> np.ndarray:
    """Which of the picture's pixels a region's patches cover: bool (height, width)."""
    grid = np.zeros(region.grid_hw, np.float32)
    grid[tuple(np.transpose(region.patches))] = 1
    return cells(grid, geometry, outside=0) > 0
