"""What distracts from the object: as sharp and as bright as it, and none of the shapes that are to be told apart.

Each entry of `CLUTTER` gives how much of each pixel its kind covers: float32 (count, height, width), 0 to 1.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vitreous.data.shapes.canvas import Canvas, column, smooth
from vitreous.data.shapes.scene import BLOB_GRID, Item, Scene


def _blobs(canvas: Canvas, scene: Scene) -> np.ndarray:
    """Islands with a crisp shore, where a smooth surface rises above the water."""
    surface = smooth(np.sin(2 * np.pi * scene.phases[-1][:, 0]).astype(np.float32), canvas.size_hw)
    surface -= np.float32(0.3)
    surface *= canvas.shorter / np.float32(BLOB_GRID)
    return np.clip(surface, 0, 1, out=surface)


def _pieces(kind: str, outside: Callable[[Canvas, Item, int], np.ndarray]) -> Callable[[Canvas, Scene], np.ndarray]:
    """All pieces of a kind as one outline, so that they are painted once."""

    def cover(canvas: Canvas, scene: Scene) -> np.ndarray:
        item = replace(scene.items[kind], place=scene.items[kind].place * canvas.extent)
        together = outside(canvas, item, 0)
        for index in range(1, item.angle.shape[1]):
            np.minimum(together, outside(canvas, item, index), out=together)
        return canvas.cover(together)

    return cover


def _between(least: float, most: float, values: np.ndarray) -> np.ndarray:
    """Numbers drawn between 0 and 1, one an image, stretched to a range: float32 (count, 1, 1)."""
    return column(least + (most - least) * values)


def _wedge(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """Everything beyond two lines that meet at a point: a corner of a big rectangle that the image cuts off."""
    place, angle = item.place[:, index], item.angle[:, index]
    one = canvas.across(place, angle)
    return np.maximum(one, canvas.across(place, angle + np.pi / 2), out=one)


def _stroke(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """A straight line right across the image."""
    line = canvas.across(item.place[:, index], item.angle[:, index])
    return np.abs(line, out=line) - _between(0.006, 0.022, item.thickness[:, index])


def _arc(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """Less than half of a thin circle."""
    place, angle = item.place[:, index], item.angle[:, index]
    radius = _between(0.08, 0.4, item.length[:, index])
    band = np.abs(canvas.distance(place) - radius) - _between(0.01, 0.03, item.thickness[:, index])
    return np.maximum(band, radius * np.float32(0.4) - canvas.across(place, angle), out=band)


def _corner(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """Two thin sides of an angle, open at their ends: part of some polygon's edge."""
    place, angle = item.place[:, index], item.angle[:, index]
    sides = np.maximum(canvas.across(place, angle), canvas.across(place, angle + 1 + item.length[:, index]))
    thin = np.abs(sides, out=sides) - _between(0.01, 0.025, item.thickness[:, index])
    return np.maximum(thin, canvas.distance(place) - _between(0.12, 0.25, item.length[:, index]), out=thin)


def _bar(canvas: Canvas, item: Item, index: int) -> np.ndarray:
    """A short thick bar."""
    place, angle = item.place[:, index], item.angle[:, index]
    along = np.abs(canvas.across(place, angle)) - _between(0.04, 0.095, item.length[:, index])
    across = np.abs(canvas.across(place, angle + np.pi / 2)) - _between(0.015, 0.04, item.thickness[:, index])
    return np.maximum(along, across, out=along)


CLUTTER: dict[str, Callable[[Canvas, Scene], np.ndarray]] = {
    "wedge": _pieces("wedge", _wedge),
    "blob": _blobs,
    "stroke": _pieces("stroke", _stroke),
    "arc": _pieces("arc", _arc),
    "corner": _pieces("corner", _corner),
    "bar": _pieces("bar", _bar),
}
