"""Points, boxes and regions in pixels of an image (x, y), and the patches that they lie on."""

import math
import re
from dataclasses import dataclass

import numpy as np

from vitreous.arguments import show
from vitreous.errors import InputError
from vitreous.explanation.options import PatchQuery
from vitreous.imaging.geometry import Geometry
from vitreous.tasks.targets import RegionTarget

Point = tuple[float, float]
"""(x, y) in pixels of the image, from its top left corner."""
Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the image: left, top, right, bottom."""
Region = Point | Box

REGION_FORMAT = "region:x0,y0,x1,y1"


@dataclass(frozen=True)
class PixelRegion:
    """A target that is a box of the image, in pixels; its patches depend on the image's geometry."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def name(self) -> str:
        """The name of the target in captions."""
        return f"region {format_pixels(self.left, self.top)} to {format_pixels(self.right, self.bottom)}"

    def to_target(self, geometry: Geometry, patch_size: int) -> RegionTarget:
        """Select the patches of one image whose borders are nearest to the box's; at least one patch.

        Raises:
            InputError: the box is outside the part of the image that the model receives.
        """
        top, left, bottom, right = geometry.visible_box
        if not (self.top < bottom and self.bottom > top and self.left < right and self.right > left):
            raise InputError(
                f"the {self.name} (x, y) is not on the part of the image that the model sees: "
                f"x {format_pixels(left)} to {format_pixels(right)}, y {format_pixels(top)} to {format_pixels(bottom)}"
            )
        top, left, bottom, right = geometry.box
        grid_size = geometry.input_size[0] // patch_size, geometry.input_size[1] // patch_size
        rows = _nearest_cells((self.top - top) / (bottom - top), (self.bottom - top) / (bottom - top), grid_size[0])
        columns = _nearest_cells(
            (self.left - left) / (right - left), (self.right - left) / (right - left), grid_size[1]
        )
        return RegionTarget.from_patch_box((rows[0], columns[0], rows[1], columns[1]), grid_size, self.name)


def parse_region(text: str) -> PixelRegion:
    """Parse the target "region:x0,y0,x1,y1", in pixels: left, top, right, bottom.

    >>> parse_region("region:10,20,60,80")
    PixelRegion(left=10.0, top=20.0, right=60.0, bottom=80.0)

    Raises:
        InputError: the text isn't four numbers, or they don't make a box.
    """
    parts = text.removeprefix("region:").split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"\s*\d+(\.\d*)?\s*", part) for part in parts):
        raise InputError(f"'{text}' is not a region: write {REGION_FORMAT}, in the image's pixels from its top left")
    left, top, right, bottom = map(float, parts)
    if not (left < right and top < bottom):
        raise InputError(f"'{text}' is empty: x1 must be above x0 and y1 above y0 in {REGION_FORMAT}")
    return PixelRegion(left, top, right, bottom)


def parse_query(text: str) -> Region:
    """Parse a point "X,Y" or a box "X0,Y0,X1,Y1" in pixels.

    >>> parse_query("320,180")
    (320.0, 180.0)
    >>> parse_query("600,300,700,500")
    (600.0, 300.0, 700.0, 500.0)

    Raises:
        InputError: the text isn't two numbers, or four that make a box.
    """
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (2, 4):
        raise InputError(f"'{text}' is not a point on an image: give X,Y such as 320,180, or a box X0,Y0,X1,Y1")
    return validate_region(numbers)


def validate_region(region: object) -> Region:
    """Return a region as floats, if it is a point (x, y), a box (x0, y0, x1, y1) or a PixelRegion.

    Raises:
        InputError: it is neither.
    """
    if isinstance(region, PixelRegion):
        region = (region.left, region.top, region.right, region.bottom)
    numbers = tuple(region) if isinstance(region, tuple | list | np.ndarray) else ()
    if len(numbers) not in (2, 4) or not all(isinstance(one, int | float | np.number) for one in numbers):
        raise InputError(f"query {show(region)} is not a point on an image: give (x, y), or a box (x0, y0, x1, y1)")
    if len(numbers) == 2:
        return float(numbers[0]), float(numbers[1])
    left, top, right, bottom = map(float, numbers)
    if not (left < right and top < bottom):
        box = format_pixels(left, top, right, bottom)
        raise InputError(f"the box {box} is empty: x1 must be above x0 and y1 above y0")
    return left, top, right, bottom


def format_pixels(*numbers: float) -> str:
    """Write coordinates in pixels; large ones without an exponent.

    >>> format_pixels(1e6, 2.5)
    '1000000,2.5'
    """
    return ",".join(f"{one:.0f}" if float(one).is_integer() else f"{one:g}" for one in numbers)


def center_of_region(region: Region) -> Point:
    """Return the point itself, or the center of the box.

    >>> center_of_region((10, 20, 30, 60))
    (20.0, 40.0)
    """
    if len(region) == 2:
        return region
    return (region[0] + region[2]) / 2, (region[1] + region[3]) / 2


def locate_query(query: Region, geometry: Geometry, patch_size: int) -> PatchQuery:
    """Find the patch under a point, or the box of patches whose borders are nearest to a box.

    Raises:
        InputError: the point or box is outside the part of the image that the model receives.
    """
    if len(query) == 2:
        return patch_at(query, geometry, patch_size)
    patches = PixelRegion(*query).to_target(geometry, patch_size).patches
    return *patches[0], patches[-1][0] + 1, patches[-1][1] + 1


def patch_at(point: Point, geometry: Geometry, patch_size: int) -> tuple[int, int]:
    """Find the patch (row, column) under a point (x, y) in pixels of the image.

    Raises:
        InputError: the point is outside the part of the image that the model receives.
    """
    (x, y), show = point, format_pixels
    first_y, first_x, last_y, last_x = geometry.visible_box
    if not (first_y <= y < last_y and first_x <= x < last_x):
        raise InputError(
            f"the point {show(x, y)} (x, y) is not on the part of the image that the model sees: "
            f"x {show(first_x)} to {show(last_x)}, y {show(first_y)} to {show(last_y)}"
        )
    top, left, bottom, right = geometry.box
    row = int((y - top) / (bottom - top) * geometry.input_size[0]) // patch_size
    column = int((x - left) / (right - left) * geometry.input_size[1]) // patch_size
    return row, column


def upsample_nearest(patch_map: np.ndarray, geometry: Geometry, outside: float | None = None) -> np.ndarray:
    """Upsample a map (rows, columns) to the image's pixels, one value per patch: float32 (height, width).

    Pixels that the model doesn't receive get the value `outside`, by default the smallest of the map.
    """
    top, left, bottom, right = geometry.box
    result = np.full(geometry.original_size, float(patch_map.min()) if outside is None else outside, np.float32)
    first_row, first_column, last_row, last_column = map(int, geometry.visible_box)
    sides = (
        (first_row, last_row, top, bottom, patch_map.shape[0]),
        (first_column, last_column, left, right, patch_map.shape[1]),
    )
    rows, columns = (
        np.clip((np.arange(first, last) + 0.5 - start) / (stop - start) * count, 0, count - 1).astype(int)
        for first, last, start, stop, count in sides
    )
    result[first_row:last_row, first_column:last_column] = patch_map[rows][:, columns]
    return result


def patch_mask(region: RegionTarget, geometry: Geometry) -> np.ndarray:
    """Return which of the image's pixels the patches of a region cover: bool (height, width)."""
    covered = np.zeros(region.grid_size, np.float32)
    covered[tuple(np.transpose(region.patches))] = 1
    return upsample_nearest(covered, geometry, outside=0) > 0


def _nearest_cells(start: float, stop: float, count: int) -> tuple[int, int]:
    """Return the cells of a side of `count` cells from `start` to `stop` (fractions of the side), at least one."""
    first = min(count - 1, max(0, math.floor(start * count + 0.5)))
    return first, min(count, max(first + 1, math.floor(stop * count + 0.5)))
