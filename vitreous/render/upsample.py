"""A map at the resolution of a model's grid as levels of color at the size of an image: what is enlarged last."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vitreous.render.color import Scale, check_map, to_levels

Box = Sequence[float]


def upsample_to_image(
    heat: np.ndarray, scale: Scale, size_hw: tuple[int, int], box: Box | None = None, *, step: int = 1
) -> np.ndarray:
    """The levels, uint8 (⌈height / step⌉, ⌈width / step⌉), of a float (rows, columns) map laid over an image.

    Bilinear with half-pixel centers. The map spans `box`, (top, left, bottom, right) in pixels, or the whole image;
    beyond the box the heat is 0.

    Raises:
        InputError: the map is not two-dimensional, is empty, or holds a value that is not finite.
    """
    levels = Image.fromarray(to_levels(scale.apply(check_map(heat))))
    rows, columns = (-(-side // step) for side in size_hw)
    top, left, bottom, right = clip_box(box, size_hw)
    top, left, bottom, right = top // step, left // step, -(-bottom // step), -(-right // step)
    seen = np.asarray(levels.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    if seen.shape == (rows, columns):
        return seen
    whole = np.full((rows, columns), to_levels(scale.apply(np.zeros((1, 1))))[0, 0])
    whole[top:bottom, left:right] = seen
    return whole


def crop_to_image(heat: np.ndarray, box: Box, size_hw: tuple[int, int]) -> tuple[np.ndarray, Box]:
    """The part of a map (rows, columns, ...) over `box` that lies on an image, and the box of that part.

    Cells are kept or left out whole: where there are bars around an image, they are as wide as some cells.
    """
    (top, left, bottom, right), (rows, columns) = box, heat.shape[:2]
    tall, wide = (bottom - top) / rows, (right - left) / columns
    down, across = slice(round(max(0.0, -top) / tall), rows), slice(round(max(0.0, -left) / wide), columns)
    down = slice(down.start, rows - round(max(0.0, bottom - size_hw[0]) / tall))
    across = slice(across.start, columns - round(max(0.0, right - size_hw[1]) / wide))
    kept = (top + down.start * tall, left + across.start * wide, top + down.stop * tall, left + across.stop * wide)
    return heat[down, across], kept


def clip_box(box: Box | None, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels, at least one wide and high and inside the image."""
    if box is None:
        return 0, 0, *size_hw
    top, left = (min(max(0, round(low)), side - 1) for low, side in zip(box[:2], size_hw, strict=True))
    bottom, right = (
        min(max(low + 1, round(high)), side) for low, high, side in zip((top, left), box[2:], size_hw, strict=True)
    )
    return top, left, bottom, right


def resize_plane(plane: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """The plane at another size, bilinear."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR))
