"""Patches as squares on the image that they were cut from."""

import numpy as np

from vitreous.data.preprocessing import Geometry
from vitreous.explanation.targets import Region


def cells(grid: np.ndarray, geometry: Geometry, outside: float | None = None) -> np.ndarray:
    """A grid (rows, columns) on the image's pixels, each patch in one value: float32 (height, width).

    Where the model saw nothing, it is `outside`, by default the least of the grid.
    """
    top, left, bottom, right = geometry.box
    heat = np.full(geometry.source_hw, float(grid.min()) if outside is None else outside, np.float32)
    first_row, first_column, last_row, last_column = map(int, geometry.seen)
    sides = (
        (first_row, last_row, top, bottom, grid.shape[0]),
        (first_column, last_column, left, right, grid.shape[1]),
    )
    rows, columns = (
        np.clip((np.arange(first, last) + 0.5 - start) / (stop - start) * count, 0, count - 1).astype(int)
        for first, last, start, stop, count in sides
    )
    heat[first_row:last_row, first_column:last_column] = grid[rows][:, columns]
    return heat


def covered(region: Region, geometry: Geometry) -> np.ndarray:
    """Which of the image's pixels a region's patches cover: bool (height, width)."""
    grid = np.zeros(region.grid_hw, np.float32)
    grid[tuple(np.transpose(region.patches))] = 1
    return cells(grid, geometry, outside=0) > 0
