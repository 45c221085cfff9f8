"""A stack of images to paint on: coordinates, distances, antialiased coverage and smooth surfaces, in float32."""

from functools import lru_cache

import numpy as np


class Canvas:
    """Unfinished images, float32 (count, 3, height, width), and the coordinates of their pixels' centers."""

    def __init__(self, count: int, size_hw: tuple[int, int]) -> None:
        self.size_hw = size_hw
        self.shorter = np.float32(min(size_hw))
        self.extent = np.array(size_hw) / min(size_hw)
        self.down, self.right = (((np.arange(side) + 0.5) / min(size_hw)).astype(np.float32) for side in size_hw)
        self.pixels = np.empty((count, 3, *size_hw), np.float32)

    def plane(self, down: np.ndarray, right: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Return down * y + right * x - offset at each pixel, for arrays of shape (count,): (count, height, width)."""
        rows = down.astype(np.float32)[:, None] * self.down - offset.astype(np.float32)[:, None]
        return rows[:, :, None] + (right.astype(np.float32)[:, None] * self.right)[:, None, :]

    def across(self, point: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """Return each pixel's signed distance from the line through `point` (count, 2) with normal `angle` (count,)."""
        sine, cosine = np.sin(angle), np.cos(angle)
        return self.plane(sine, cosine, sine * point[:, 0] + cosine * point[:, 1])

    def distance(self, point: np.ndarray) -> np.ndarray:
        """Return each pixel's distance from `point` (count, 2)."""
        down = (self.down - point[:, :1].astype(np.float32)) ** 2
        right = (self.right - point[:, 1:].astype(np.float32)) ** 2
        squared = down[:, :, None] + right[:, None, :]
        return np.sqrt(squared, out=squared)

    def coverage(self, outside: np.ndarray) -> np.ndarray:
        """Return the fraction of each pixel inside an outline, from its signed distance, which is overwritten."""
        outside *= -self.shorter
        outside += np.float32(0.5)
        return np.clip(outside, 0, 1, out=outside)

    def paint(self, coverage: np.ndarray, color: np.ndarray) -> None:
        """Blend a color, (count, 3) or (count, 3, height, width), over the images with the weights `coverage`."""
        color = color.reshape(*color.shape[:2], *color.shape[2:] or (1, 1)).astype(np.float32, copy=False)
        change = color - self.pixels
        change *= coverage[:, None]
        self.pixels += change


def smooth(grid: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Interpolate values on a coarse grid (..., cells, cells) smoothly over the image: (..., height, width)."""
    rows, columns = (_spline_weights(side, grid.shape[-1]) for side in size_hw)
    return rows @ grid @ columns.T


@lru_cache(maxsize=16)
def _spline_weights(pixels: int, cells: int) -> np.ndarray:
    """Return weights (pixels, cells) of the cubic B-spline, two cells to either side; rows sum to 1.

    The image is inside the outermost ring of cells, so that every pixel has all four of its neighbors.
    """
    positions = 1 + (np.arange(pixels) + 0.5) / pixels * (cells - 3)
    away = np.abs(positions[:, None] - np.arange(cells))
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    return np.where(away < 1, near, far).astype(np.float32)


def column(values: np.ndarray) -> np.ndarray:
    """Reshape one number per image to float32 (count, 1, 1), which broadcasts over its pixels."""
    return values.astype(np.float32)[:, None, None]
