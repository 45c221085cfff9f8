"""A map at the resolution of a model's grid as levels of colour at the size of a picture: what is enlarged last."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vitreous.render.color import Scale, checked_map, to_levels

PIXELS_PER_LEVEL = 2
"""Rows of pixels that share a row of levels: a map is so much smoother than a picture that nobody sees it."""

Box = Sequence[float]


def enlarged_levels(
    heat: np.ndarray, scale: Scale, size_hw: tuple[int, int], box: Box | None = None, *, row_step: int = 1
) -> np.ndarray:
    """The levels, uint8 (⌈height / row_step⌉, width), of a float (rows, columns) map laid over a picture.

    Bilinear with half-pixel centres. The map spans `box`, (top, left, bottom, right) in pixels, or the whole picture;
    beyond the box the heat is 0.

    Raises:
        InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
    """
    levels = Image.fromarray(to_levels(scale.apply(checked_map(heat))))
    rows, width = -(-size_hw[0] // row_step), size_hw[1]
    top, left, bottom, right = inner_box(box, size_hw)
    top, bottom = top // row_step, -(-bottom // row_step)
    seen = np.asarray(levels.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    if seen.shape == (rows, width):
        return seen
    whole = np.full((rows, width), to_levels(scale.apply(np.zeros((1, 1))))[0, 0])
    whole[top:bottom, left:right] = seen
    return whole


def inner_box(box: Box | None, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels, at least one wide and high and inside the picture."""
    if box is None:
        return 0, 0, *size_hw
    top, left = (min(max(0, round(low)), side - 1) for low, side in zip(box[:2], size_hw, strict=True))
    bottom, right = (
        min(max(low + 1, round(high)), side) for low, high, side in zip((top, left), box[2:], size_hw, strict=True)
    )
    return top, left, bottom, right
