"""A part of a source image as a target: which patches of the model's grid it is depends on the image's geometry."""

import math
import re
from dataclasses import dataclass

from vitreous.errors import InputError
from vitreous.explanation.targets import RegionTarget, region_target_of_box
from vitreous.imaging.geometry import Geometry

FORM = "region:x0,y0,x1,y1"


@dataclass(frozen=True)
class PixelRegion:
    """A box in source pixels, not yet laid on a model's grid."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def name(self) -> str:
        """In words."""
        return f"region {self.left:g},{self.top:g} to {self.right:g},{self.bottom:g}"

    def on(self, geometry: Geometry, patch: int) -> RegionTarget:
        """The patches (of `patch` pixels) whose borders are nearest to the box's, one at least, on one image.

        Raises:
            InputError: the box is on no part of the image that the model sees.
        """
        top, left, bottom, right = geometry.visible_box
        if not (self.top < bottom and self.bottom > top and self.left < right and self.right > left):
            raise InputError(
                f"the {self.name} (x, y) is not on the part of the image that the model sees: "
                f"x {left:g} to {right:g}, y {top:g} to {bottom:g}"
            )
        top, left, bottom, right = geometry.box
        grid_hw = geometry.input_size[0] // patch, geometry.input_size[1] // patch
        rows = _nearest((self.top - top) / (bottom - top), (self.bottom - top) / (bottom - top), grid_hw[0])
        columns = _nearest((self.left - left) / (right - left), (self.right - left) / (right - left), grid_hw[1])
        return region_target_of_box((rows[0], columns[0], rows[1], columns[1]), grid_hw, self.name)


def parse_region(text: str) -> PixelRegion:
    """A region from "region:x0,y0,x1,y1", in source pixels: left, top, right, bottom.

    Raises:
        InputError: these are no four numbers, or no box.
    """
    parts = text.removeprefix("region:").split(",")
    if len(parts) != 4 or not all(re.fullmatch(r"\s*\d+(\.\d*)?\s*", part) for part in parts):
        raise InputError(f"'{text}' is no region: write {FORM}, in the image's own pixels from its top left")
    left, top, right, bottom = map(float, parts)
    if not (left < right and top < bottom):
        raise InputError(f"'{text}' holds nothing: x1 must be above x0 and y1 above y0 in {FORM}")
    return PixelRegion(left, top, right, bottom)


def _nearest(start: float, stop: float, count: int) -> tuple[int, int]:
    """The cells of a side of `count` cells from `start` to `stop` (shares of the side), one at least."""
    first = min(count - 1, max(0, math.floor(start * count + 0.5)))
    return first, min(count, max(first + 1, math.floor(stop * count + 0.5)))
