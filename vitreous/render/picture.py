"""What counts as a picture here, and how one is brought to a comfortable size."""

from math import ceil

import numpy as np
from PIL import Image

from vitreous.errors import InputError

PIXELATED_FROM = 4


def check_picture(image_u8: np.ndarray) -> None:
    """Raise InputError unless `image_u8` is uint8 of shape (height, width, 3) with at least one pixel."""
    shape = np.shape(image_u8)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or getattr(image_u8, "dtype", None) != np.uint8:
        kind = getattr(image_u8, "dtype", type(image_u8).__name__)
        raise InputError(f"a picture of shape {shape} and type {kind} can't be drawn: give uint8 (height, width, 3)")


def as_image(picture: np.ndarray | Image.Image) -> Image.Image:
    """The picture, an array uint8 (height, width, 3) or an Image, as an RGB Image; never a view that is written to."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    check_picture(picture)
    return Image.fromarray(np.ascontiguousarray(picture))


def fitted(picture: np.ndarray | Image.Image, box_hw: tuple[int, int]) -> Image.Image:
    """The picture as large as fits into `box_hw` pixels, its proportions kept (each side at least one pixel).

    A picture much smaller than the box keeps its pixels visible as squares; any other is resampled smoothly.
    """
    image = as_image(picture)
    factor = min(box_hw[0] / image.height, box_hw[1] / image.width)
    size_wh = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if factor < PIXELATED_FROM:
        return image if size_wh == image.size else image.resize(size_wh, Image.Resampling.LANCZOS)
    whole = ceil(factor)
    squares = image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    return squares.resize(size_wh, Image.Resampling.BOX)
