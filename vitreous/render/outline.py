"""Draw the outline of an object on an image."""

import numpy as np
from PIL import ImageColor

from vitreous.errors import InputError
from vitreous.render.image import check_image
from vitreous.render.theme import INK, PAPER

OUTLINE_WIDTH_FRACTION = 0.007
"""Width of the line over the image's shorter side."""


def draw_outline(image_u8: np.ndarray, mask: np.ndarray, color: str = PAPER) -> np.ndarray:
    """Draw a line around the mask, bool (height, width), on a copy of the image, uint8 (height, width, 3).

    The line is inside the object, with a dark line around it outside, so that it is visible on any background.

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
    """Dilate the mask by an octagon of this radius: 4 and 8 neighbors in turns."""
    for step in range(steps):
        padded = np.pad(mask, 1)
        wide = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        if step % 2:
            wide |= padded[:-2, :-2] | padded[:-2, 2:] | padded[2:, :-2] | padded[2:, 2:]
        mask = wide
    return mask
