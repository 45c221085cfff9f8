"""Upsample a map from the patch grid to color levels at the size of an image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vitreous.render.color import Scale, check_map, to_levels

PixelBox = Sequence[float]
"""(top, left, bottom, right) of a map, in pixels of the image that it lies on."""


def upsample_to_image(
    heatmap: np.ndarray, scale: Scale, size_hw: tuple[int, int], box: PixelBox | None = None, *, step: int = 1
) -> np.ndarray:
    """Upsample a float (rows, columns) map to levels on an image: uint8 (⌈height / step⌉, ⌈width / step⌉).

    Resampling is bilinear with half-pixel centers. Outside the box the map is 0.

    Args:
        heatmap: the map, which covers `box`.
        scale: the values of the first and the last level.
        size_hw: the image's size.
        box: (top, left, bottom, right) in pixels; the whole image by default.
        step: pixels per level along each side, 1 or 2.

    Raises:
        InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
    """
    levels = Image.fromarray(to_levels(scale.apply(check_map(heatmap))))
    rows, columns = (-(-side // step) for side in size_hw)
    top, left, bottom, right = clip_box(box, size_hw)
    top, left, bottom, right = top // step, left // step, -(-bottom // step), -(-right // step)
    inner = np.asarray(levels.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    if inner.shape == (rows, columns):
        return inner
    levels_on_image = np.full((rows, columns), to_levels(scale.apply(np.zeros((1, 1))))[0, 0])
    levels_on_image[top:bottom, left:right] = inner
    return levels_on_image


def crop_to_image(heatmap: np.ndarray, box: PixelBox, size_hw: tuple[int, int]) -> tuple[np.ndarray, PixelBox]:
    """Crop a map (rows, columns, ...) over `box` to the cells on the image; return it with its box.

    Only whole cells are removed: bars around an image are some cells wide.
    """
    (top, left, bottom, right), (rows, columns) = box, heatmap.shape[:2]
    cell_height, cell_width = (bottom - top) / rows, (right - left) / columns
    row_range, column_range = (
        slice(round(max(0.0, -top) / cell_height), rows),
        slice(round(max(0.0, -left) / cell_width), columns),
    )
    row_range = slice(row_range.start, rows - round(max(0.0, bottom - size_hw[0]) / cell_height))
    column_range = slice(column_range.start, columns - round(max(0.0, right - size_hw[1]) / cell_width))
    cropped_box = (
        top + row_range.start * cell_height,
        left + column_range.start * cell_width,
        top + row_range.stop * cell_height,
        left + column_range.stop * cell_width,
    )
    return heatmap[row_range, column_range], cropped_box


def clip_box(box: PixelBox | None, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box in whole pixels, inside the image and at least one pixel wide and high."""
    if box is None:
        return 0, 0, *size_hw
    top, left = (min(max(0, round(low)), side - 1) for low, side in zip(box[:2], size_hw, strict=True))
    bottom, right = (
        min(max(low + 1, round(high)), side) for low, high, side in zip((top, left), box[2:], size_hw, strict=True)
    )
    return top, left, bottom, right


def resize_plane(plane: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """Resize a plane bilinearly."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR))
