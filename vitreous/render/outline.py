"""The outline of an object, drawn on a picture."""

import numpy as np
from PIL import ImageColor

from vitreous.errors import InputError
from vitreous.render.picture import check_picture
from vitreous.render.theme import INK, PAPER

WIDTH_SHARE = 0.007
"""Of the shorter side: how wide the line is."""


def outline(image_u8: np.ndarray, mask: np.ndarray, color: str = PAPER) -> np.ndarray:
    """A copy of the picture, uint8 (height, width, 3), with a line around the mask, bool (height, width).

    The line lies inside the object and a dark one around it outside, so that it is seen on any ground.

    Raises:
        InputError: picture and mask differ in size.
    """
    check_picture(image_u8)
    if mask.shape != image_u8.shape[:2]:
        raise InputError(f"a mask of {mask.shape} doesn't fit a picture of {image_u8.shape[:2]} (height, width)")
    width = max(1, round(WIDTH_SHARE * min(mask.shape)))
    drawn = image_u8.copy()
    drawn[grown(mask, width) & ~mask] = ImageColor.getrgb(INK)
    drawn[mask & grown(~mask, width)] = ImageColor.getrgb(color)
    return drawn


def grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask with its neighbours, the four beside and eight around in turns: an octagon of so many steps."""
    for step in range(steps):
        padded = np.pad(mask, 1)
        wide = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        if step % 2:
            wide |= padded[:-2, :-2] | padded[:-2, 2:] | padded[2:, :-2] | padded[2:, 2:]
        mask = wide
    return mask
