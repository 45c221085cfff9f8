"""Places and boxes on an image as users write them."""

import numpy as np

from vitreous.errors import InputError
from vitreous.explanation.explain import Asked
from vitreous.explanation.targets import RegionTarget
from vitreous.imaging.geometry import Geometry


def parse_region_yx(text: str | None) -> Asked | None:
    """A place "X,Y" in pixels as (y, x), down and across, or a box "X0,Y0,X1,Y1" as (y0, x0, y1, x1); None stays None.

    >>> parse_region_yx("320,180")
    (180.0, 320.0)
    >>> parse_region_yx("600,300,700,500")
    (300.0, 600.0, 500.0, 700.0)

    Raises:
        InputError: it isn't two numbers, or four that make a box.
    """
    if text is None:
        return None
    wrong = InputError(f"'{text}' is no place on an image: give X,Y such as 320,180, or a box X0,Y0,X1,Y1")
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise wrong from None
    if len(numbers) == 2:
        return numbers[1], numbers[0]
    if len(numbers) != 4:
        raise wrong
    left, top, right, bottom = numbers
    if not (left < right and top < bottom):
        raise InputError(f"the box '{text}' holds nothing: x1 must be above x0 and y1 above y0 in X0,Y0,X1,Y1")
    return top, left, bottom, right


def swapped(numbers: Asked) -> Asked:
    """A place or box with down and across exchanged: (y, x) for (x, y), and back."""
    if len(numbers) == 2:
        return numbers[1], numbers[0]
    return numbers[1], numbers[0], numbers[3], numbers[2]


def center_of_region(numbers: Asked) -> tuple[float, float]:
    """The place itself, or the middle of the box."""
    if len(numbers) == 2:
        return numbers
    return (numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2


def upsample_nearest(grid: np.ndarray, geometry: Geometry, outside: float | None = None) -> np.ndarray:
    """A grid (rows, columns) on the image's pixels, each patch in one value: float32 (height, width).

    Where the model saw nothing, it is `outside`, by default the least of the grid.
    """
    top, left, bottom, right = geometry.box
    heat = np.full(geometry.original_size, float(grid.min()) if outside is None else outside, np.float32)
    first_row, first_column, last_row, last_column = map(int, geometry.visible_box)
    sides = (
        (first_row, last_row, top, bottom, grid.shape[0]),
        (first_column, last_column, left, right, grid.shape[1]),
    )
    rows, columns = (
        np.clip((np.arange(first, last) + 0.5 - start) / (stop - start) * count, 0, count - 1).astype(int)
        for first, last, start, stop, count in sides
    )
    heat[first_row:last_row, first_column:last_column] = grid[rows][:, columns]
    return heat


def patch_mask(region: RegionTarget, geometry: Geometry) -> np.ndarray:
    """Which of the image's pixels a region's patches cover: bool (height, width)."""
    grid = np.zeros(region.grid_size, np.float32)
    grid[tuple(np.transpose(region.patches))] = 1
    return upsample_nearest(grid, geometry, outside=0) > 0
