"""Distractors in the background: as sharp and as bright as the object, but none of the shapes that are classes.

Each entry of `CLUTTER` returns the fraction of each pixel that its kind covers: float32 (count, height, width).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vitreous.data.shapes.canvas import Canvas, column, smooth
from vitreous.data.shapes.scene import BLOB_GRID, Item, Scene


def _blobs(canvas: Canvas, scene: Scene) -> np.ndarray:
    """Blobs with sharp edges: where a smooth surface is above a level."""
    surface = smooth(np.sin(2 * np.pi * scene.phases[-1][:, 0]).astype(np.float32), canvas.size_hw)
    surface -= np.float32(0.3)
    surface *= canvas.shorter / np.float32(BLOB_GRID)
    return np.clip(surface, 0, 1, out=surface)


def _merge(kind: str, outside: Callable[[Canvas, Item, int], np.ndarray]) -> Callable[[Canvas, Scene], np.ndarray]:
    """Merge all pieces of a kind into one outline, so that they are painted once."""

    def coverage(canvas: Canvas, scene: Scene) -> np.ndarray:
        item = replace(scene.items[kind], position=scene.items[kind].position * canvas.extent)
        merged = outside(canvas, item, 0)
        for index in range(1, item.angle.shape[1]):
            np.minimum(merged, outside(canvas, item, index), out=merged)
        return canvas.coverage(merged)

    return coverage


def _scale(least: float, most: float, values: np.ndarray) -> np.ndarray:
    """Scale numbers between 0 and 1, one an image, to a range: float32 (count, 1, 1)."""
    return column(least + (most - least) * values)


def _wedge(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """A corner of a big rectangle that the image border crops."""
    position, angle = item.position[:, index], item.angle[:, index]
    one = canvas.across(position, angle)
    return np.maximum(one, canvas.across(position, angle + np.pi / 2), out=one)


def _stroke(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """A straight line across the whole image."""
    line = canvas.across(item.position[:, index], item.angle[:, index])
    return np.abs(line, out=line) - _scale(0.006, 0.022, item.thickness[:, index])


def _arc(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """Less than half of a thin circle."""
    position, angle = item.position[:, index], item.angle[:, index]
    radius = _scale(0.08, 0.4, item.length[:, index])
    band = np.abs(canvas.distance(position) - radius) - _scale(0.01, 0.03, item.thickness[:, index])
    return np.maximum(band, radius * np.float32(0.4) - canvas.across(position, angle), out=band)


def _corner(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """Two thin line segments that meet at an angle, like part of a polygon."""
    position, angle = item.position[:, index], item.angle[:, index]
    sides = np.maximum(canvas.across(position, angle), canvas.across(position, angle + 1 + item.length[:, index]))
    thin = np.abs(sides, out=sides) - _scale(0.01, 0.025, item.thickness[:, index])
    return np.maximum(thin, canvas.distance(position) - _scale(0.12, 0.25, item.length[:, index]), out=thin)


def _bar(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """A short thick bar."""
    position, angle = item.position[:, index], item.angle[:, index]
    along = np.abs(canvas.across(position, angle)) - _scale(0.04, 0.095, item.length[:, index])
    across = np.abs(canvas.across(position, angle + np.pi / 2)) - _scale(0.015, 0.04, item.thickness[:, index])
    return np.maximum(along, across, out=along)


CLUTTER: dict[str, Callable[[Canvas, Scene], np.ndarray]] = {
    "wedge": _merge("wedge", _wedge),
    "blob": _blobs,
    "stroke": _merge("stroke", _stroke),
    "arc": _merge("arc", _arc),
    "corner": _merge("corner", _corner),
    "bar": _merge("bar", _bar),
}
