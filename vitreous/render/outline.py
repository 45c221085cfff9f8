"""The outline of an object, drawn on an image."""

import numpy as np
from PIL import ImageColor

from vitreous.errors import InputError
from vitreous.render.image import check_image
from vitreous.render.theme import INK, PAPER

OUTLINE_WIDTH_FRACTION = 0.007
"""Of the shorter side: how wide the line is."""


def draw_outline(image_u8: np.ndarray, mask: np.ndarray, color: str = PAPER) -> np.ndarray:
    """A copy of the image, uint8 (height, width, 3), with a line around the mask, bool (height, width).

    The line lies inside the object and a dark one around it outside, so that it is seen on any ground.

    Raises:
        InputError: image and mask differ in size.
    """
    check_image(image_u8)
    if mask.shape != image_u8.shape[:2]:
        raise InputError(f"a mask of {mask.shape} doesn't fit an image of {image_u8.shape[:2]} (height, width)")
    width = max(1, round(OUTLINE_WIDTH_FRACTION * min(mask.shape)))
    drawn = image_u8.copy()
    drawn[dilate(mask, width) & ~mask] = ImageColor.getrgb(INK)
    drawn[mask & dilate(~mask, width)] = ImageColor.getrgb(color)
    return drawn


def dilate(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask with its neighbors, the four beside and eight around in turns: an octagon of so many steps."""
    for step in range(steps):
        padded = np.pad(mask, 1)
        wide = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        if step % 2:
            wide |= padded[:-2, :-2] | padded[:-2, 2:] | padded[2:, :-2] | padded[2:, 2:]
        mask = wide
    return mask
