"""Check images, convert them, and scale them to a size that is comfortable to look at."""

from math import ceil

import numpy as np
from PIL import Image

from vitreous.errors import InputError

PIXELATED_FROM = 4


def check_image(image_u8: np.ndarray) -> None:
    """Raise InputError unless `image_u8` is uint8 of shape (height, width, 3) with at least one pixel."""
    shape = np.shape(image_u8)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or getattr(image_u8, "dtype", None) != np.uint8:
        kind = getattr(image_u8, "dtype", type(image_u8).__name__)
        raise InputError(f"an image of shape {shape} and type {kind} can't be drawn: give uint8 (height, width, 3)")


def as_image(image: np.ndarray | Image.Image) -> Image.Image:
    """Convert an array, uint8 (height, width, 3), or an Image to an RGB Image; the array is not written to."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    check_image(image)
    return Image.fromarray(np.ascontiguousarray(image))


def resize_to_fit(image: np.ndarray | Image.Image, box_hw: tuple[int, int]) -> Image.Image:
    """Resize the image to the largest size that fits `box_hw` pixels; its aspect ratio is kept.

    An image much smaller than the box is enlarged in squares, so that its pixels stay visible; any other is resampled
    smoothly.
    """
    rgb = as_image(image)
    factor = min(box_hw[0] / rgb.height, box_hw[1] / rgb.width)
    size_wh = (max(1, round(rgb.width * factor)), max(1, round(rgb.height * factor)))
    if factor < PIXELATED_FROM:
        return rgb if size_wh == rgb.size else rgb.resize(size_wh, Image.Resampling.LANCZOS)
    scale = ceil(factor)
    squares = rgb.resize((rgb.width * scale, rgb.height * scale), Image.Resampling.NEAREST)
    return squares.resize(size_wh, Image.Resampling.BOX)
