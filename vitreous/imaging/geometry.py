"""Where a model's input lies on the original image, and how a map on its patches gets back there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from numbers import Integral

import numpy as np

from vitreous.errors import InputError

MAX_PATCHES = 256 * 256
"""Patches per image; attention over more of them would take 17 GB per head and layer."""


@dataclass(frozen=True)
class Geometry:
    """Which part of an image became a model's input, and at which size.

    Attributes:
        original_size: (height, width) of the image in pixels.
        input_size: (height, width) of the model's input in pixels.
        box: (top, left, bottom, right) of the input in the image's pixels. With padding it reaches beyond the image.
    """

    original_size: tuple[int, int]
    input_size: tuple[int, int]
    box: tuple[float, float, float, float]

    @property
    def visible_box(self) -> tuple[float, float, float, float]:
        """The (top, left, bottom, right) of the part of the image that is in the input, without padding."""
        (top, left, bottom, right), (height, width) = self.box, self.original_size
        return max(0.0, top), max(0.0, left), min(float(height), bottom), min(float(width), right)

    def of_patches(self, grid: tuple[int, ...], patch_size: int) -> "Geometry":
        """Return the geometry of a grid of patches, of which the last ones may reach beyond the input.

        They do where a model pads its input to whole patches. For a map of other cells, it is this geometry.

        >>> Geometry((60, 90), (60, 90), (0, 0, 60, 90)).of_patches((4, 6), 16)
        Geometry(original_size=(60, 90), input_size=(64, 96), box=(0, 0, 64.0, 96.0))
        """
        if tuple(grid) == self.input_size or tuple(grid) != tuple(-(-side // patch_size) for side in self.input_size):
            return self
        height, width = (cells * patch_size for cells in grid)
        if (height, width) == self.input_size:
            return self
        top, left, bottom, right = self.box
        bottom = top + (bottom - top) * height / self.input_size[0]
        right = left + (right - left) * width / self.input_size[1]
        return Geometry(self.original_size, (height, width), (top, left, bottom, right))

    def to_image(self, heatmap: np.ndarray) -> np.ndarray:
        """Upsample a map of the input to the image: float32 (image height, image width), 0 outside the box.

        The interpolation is bilinear with half-pixel centers. Where it shrinks, the triangle is as wide as a pixel of
        the result, so that it averages. Weights are never negative and sum to 1: the map keeps its range and its mean.

        Args:
            heatmap: float (grid height, grid width), any grid; it spans the box.

        >>> Geometry((4, 6), (2, 2), (0, 1, 4, 5)).to_image(np.ones((2, 2)))[0]
        array([0., 1., 1., 1., 1., 0.], dtype=float32)
        """
        assert heatmap.ndim == 2, f"one map of (grid height, grid width), not {heatmap.shape}"
        top, left, bottom, right = self.box
        rows = _interpolation_weights(self.original_size[0], top, bottom, heatmap.shape[0])
        columns = _interpolation_weights(self.original_size[1], left, right, heatmap.shape[1])
        return (rows @ heatmap.astype(np.float32)) @ columns.T


@lru_cache(maxsize=16)
def _interpolation_weights(pixels: int, start: float, stop: float, cells: int) -> np.ndarray:
    """Return the weight of each of `cells` equal cells between `start` and `stop` in each pixel: (pixels, cells).

    Rows sum to 1 where the pixel's center lies between `start` and `stop`, and to 0 elsewhere.
    """
    cell = (stop - start) / cells
    centers = np.arange(pixels) + 0.5
    positions = (centers - start) / cell - 0.5  # in cells, cell 0's center at 0
    radius = max(1.0, 1.0 / cell)
    distances = np.abs(np.clip(positions, 0, cells - 1)[:, None] - np.arange(cells))
    weights = np.maximum(0.0, 1.0 - distances / radius)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[(centers < start) | (centers >= stop)] = 0.0
    weights = weights.astype(np.float32)
    weights.setflags(write=False)  # the cache returns the same array to every caller
    return weights


def to_pair(size: int | Sequence[int], name: str = "input_size") -> tuple[int, int]:
    """Turn one side in pixels, or two, into (height, width).

    Raises:
        InputError: it is something else, or not above 0; the message calls it `name`.

    >>> to_pair(224), to_pair([32, 48])
    ((224, 224), (32, 48))
    """
    sides = (size, size) if isinstance(size, Integral) else size
    if (
        not isinstance(sides, Sequence | np.ndarray)
        or len(sides) != 2
        or any(not isinstance(side, Integral) or isinstance(side, bool) or side < 1 for side in sides)
    ):
        raise InputError(f"{name}={size!r} is invalid: give a side or (height, width) in pixels, above 0")
    return int(sides[0]), int(sides[1])


def grid_for(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Count the rows and columns of patches in an image of (height, width) pixels.

    Raises:
        InputError: the patch size doesn't divide both sides; names the nearest sizes that fit.
    """
    height, width = image_size
    if height > 0 and width > 0 and height % patch_size == 0 and width % patch_size == 0:
        return height // patch_size, width // patch_size
    fits = [
        [patch_size * patches for patches in sorted({max(1, side // patch_size), max(1, -(-side // patch_size))})]
        for side in image_size
    ]
    choices = ", ".join(f"{h} × {w}" for h in fits[0] for w in fits[1])
    raise InputError(
        f"an image of {height} × {width} (height × width) can't be cut into patches of {patch_size}: use {choices}"
    )


def check_patch_count(image_size: tuple[int, int], patch_size: int) -> None:
    """Refuse a size before an image of it fills the memory.

    Raises:
        InputError: it has more than MAX_PATCHES patches.
    """
    count = (image_size[0] // patch_size) * (image_size[1] // patch_size)
    if count > MAX_PATCHES:
        side = isqrt(MAX_PATCHES) * patch_size
        raise InputError(
            f"an image of {image_size[0]} × {image_size[1]} would have {count} patches of {patch_size}, more than "
            f"{MAX_PATCHES}, which is the limit: choose {side} × {side} or less"
        )
