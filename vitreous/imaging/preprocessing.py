"""From an image's pixels to a model's and back: what the model saw, and where on the image its map belongs."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError, unknown

Resize = Literal["stretch", "crop", "aspect", "letterbox"]
RESIZES: tuple[str, ...] = get_args(Resize)
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its images.

    Attributes:
        size_hw: the model's own (height, width) in pixels; for "aspect" it sets the area only.
        resize: "stretch" squashes the whole image to `size_hw`; "crop" fits the shorter side and cuts out the
            center; "aspect" keeps the whole image and its aspect ratio, with both sides multiples of `multiple`;
            "letterbox" does so within `size_hw`, the rest of which is filled with the mean color in whole patches.
        mean, std: one number a channel, for pixels scaled to 0..1; one channel means luma.
        multiple: the patch size in pixels.
        central: share of the height and width that "stretch" or "crop" would show which is kept, around the center:
            0.875 is the usual "resize to 256, crop 224". 1 for "aspect" and "letterbox".
        interpolation: "bicubic" or "bilinear", antialiased either way.
    """

    size_hw: tuple[int, int]
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    multiple: int
    central: float = 1.0
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise unknown("resize rule", self.resize, RESIZES)
        if min(*self.size_hw, self.multiple) < 1:
            raise InputError(f"size {self.size_hw} and multiple {self.multiple} must be positive: give pixels")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise InputError(f"mean {self.mean} and std {self.std} don't fit: give 1 or 3 numbers each, std above 0")
        if not 0 < self.central <= 1 or (self.resize in ("aspect", "letterbox") and self.central != 1):
            raise InputError(
                f"the central share {self.central} must be above 0 and at most 1, and 1 for '{self.resize}'"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)


@dataclass(frozen=True)
class Geometry:
    """Which part of an image a model saw, and at which size.

    Attributes:
        source_hw: (height, width) of the image in pixels.
        model_hw: (height, width) of what the model was given, in pixels.
        box: (top, left, bottom, right) of what it saw, in source pixels; with bars around the image, beyond it.
    """

    source_hw: tuple[int, int]
    model_hw: tuple[int, int]
    box: tuple[float, float, float, float]

    @property
    def seen(self) -> tuple[float, float, float, float]:
        """The (top, left, bottom, right) of the part of the image that the model saw, without bars around it."""
        (top, left, bottom, right), (height, width) = self.box, self.source_hw
        return max(0.0, top), max(0.0, left), min(float(height), bottom), min(float(width), right)

    def to_source(self, heat: np.ndarray) -> np.ndarray:
        """Lay a map on the model's grid back onto the image: float32 (source height, width), 0 outside the box.

        Bilinear with half-pixel centers (a triangle as wide as the coarser of the two rasters, so that shrinking
        averages): weights are never negative and sum to 1, so the map's range and its mean are kept.

        Args:
            heat: float (grid height, grid width), any grid; it spans the box.
        """
        assert heat.ndim == 2, f"one map of (grid height, grid width), not {heat.shape}"
        top, left, bottom, right = self.box
        rows = _weights(self.source_hw[0], top, bottom, heat.shape[0])
        columns = _weights(self.source_hw[1], left, right, heat.shape[1])
        return (rows @ heat.astype(np.float32)) @ columns.T


def prepare(image_u8: np.ndarray, preprocessing: Preprocessing) -> tuple[Tensor, Geometry]:
    """Resize and normalize uint8 (height, width, 3) for a model: float32 (channels, height, width), with geometry."""
    source_hw = (image_u8.shape[0], image_u8.shape[1])
    model_hw = _model_size(source_hw, preprocessing)
    inner = _inner(source_hw, preprocessing)
    box = _central(seen_box(source_hw, model_hw, preprocessing.resize), preprocessing.central)
    image = _resized(image_u8, box, (inner[2] - inner[0], inner[3] - inner[1]), preprocessing.interpolation)
    if len(preprocessing.mean) == 1:
        image = np.array(Image.fromarray(image).convert("L"))[..., None]
    pixels = torch.from_numpy(image).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    inputs = ((pixels - mean) / std).contiguous()
    if preprocessing.resize != "letterbox":
        return inputs, Geometry(source_hw, model_hw, box)
    (top, left, bottom, right), (height, width) = inner, model_hw
    inputs = functional.pad(inputs, (left, width - right, top, height - bottom))  # 0 is the mean
    tall, wide = source_hw[0] / (bottom - top), source_hw[1] / (right - left)  # source pixels a pixel
    box = (-top * tall, -left * wide, (height - top) * tall, (width - left) * wide)
    return inputs, Geometry(source_hw, model_hw, box)


def fit_image(image_u8: np.ndarray, size_hw: tuple[int, int], resize: Literal["stretch", "crop"]) -> np.ndarray:
    """Bring uint8 (height, width, 3) to uint8 (*size_hw, 3) as `Preprocessing` would, without normalizing."""
    if resize not in ("stretch", "crop"):
        raise unknown("resize rule for images of one size", resize, ("stretch", "crop"))
    source_hw = (image_u8.shape[0], image_u8.shape[1])
    return _resized(image_u8, seen_box(source_hw, size_hw, resize), size_hw)


def _model_size(source_hw: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """The (height, width) the model is given, in pixels."""
    if preprocessing.resize != "aspect":
        return preprocessing.size_hw
    multiple = preprocessing.multiple
    area = preprocessing.size_hw[0] * preprocessing.size_hw[1]
    scale = (area / (source_hw[0] * source_hw[1])) ** 0.5
    longest = max(1, area // multiple**2)  # in patches: a strip one patch wide has no more of them than any other
    height, width = (min(max(1, round(side * scale / multiple)), longest) * multiple for side in source_hw)
    return height, width


def _inner(source_hw: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """The (top, left, bottom, right) of the image within what the model is given, in its pixels."""
    model_hw, multiple = _model_size(source_hw, preprocessing), preprocessing.multiple
    if preprocessing.resize != "letterbox":
        return 0, 0, *model_hw
    scale = min(model / source for model, source in zip(model_hw, source_hw, strict=True))
    sides = [
        min(max(1, round(source * scale / multiple)), model // multiple) * multiple
        for source, model in zip(source_hw, model_hw, strict=True)
    ]
    top, left = ((model - side) // multiple // 2 * multiple for model, side in zip(model_hw, sides, strict=True))
    return top, left, top + sides[0], left + sides[1]


def seen_box(source_hw: tuple[int, int], model_hw: tuple[int, int], resize: str) -> tuple[float, float, float, float]:
    """The (top, left, bottom, right) that the model sees, in whole source pixels."""
    height, width = source_hw
    if resize != "crop":
        return 0.0, 0.0, float(height), float(width)
    seen_height = max(1, min(height, round(width * model_hw[0] / model_hw[1])))
    seen_width = max(1, min(width, round(height * model_hw[1] / model_hw[0])))
    top, left = (height - seen_height) // 2, (width - seen_width) // 2
    return float(top), float(left), float(top + seen_height), float(left + seen_width)


def _central(box: tuple[float, float, float, float], share: float) -> tuple[float, float, float, float]:
    """The middle of a box, `share` of its height and width, in whole source pixels."""
    (top, left), (height, width) = box[:2], (box[2] - box[0], box[3] - box[1])
    kept_height, kept_width = max(1, round(share * height)), max(1, round(share * width))
    top, left = top + (height - kept_height) // 2, left + (width - kept_width) // 2
    return top, left, top + kept_height, left + kept_width


def _resized(
    image_u8: np.ndarray,
    box: tuple[float, float, float, float],
    size_hw: tuple[int, int],
    interpolation: str = "bicubic",
) -> np.ndarray:
    """The part of the image inside the box at `size_hw`, uint8, antialiased.

    As Pillow does it, but for a gray level where roundings differ, in a tenth of its time.
    """
    assert image_u8.dtype == np.uint8 and image_u8.ndim == 3 and image_u8.shape[2] == 3, image_u8.shape
    top, left, bottom, right = (int(side) for side in box)
    seen = torch.from_numpy(np.array(image_u8[top:bottom, left:right])).permute(2, 0, 1)[None]
    resized = functional.interpolate(seen, size_hw, mode=interpolation, align_corners=False, antialias=True)
    return resized[0].permute(1, 2, 0).contiguous().numpy()


@lru_cache(maxsize=16)
def _weights(pixels: int, start: float, stop: float, cells: int) -> np.ndarray:
    """How much each of `cells` equal cells between `start` and `stop` adds to each pixel: float32 (pixels, cells).

    Rows sum to 1 where the pixel's center lies between `start` and `stop`, and to 0 elsewhere.
    """
    cell = (stop - start) / cells
    centers = np.arange(pixels) + 0.5
    positions = (centers - start) / cell - 0.5  # in cells, cell 0's center at 0
    reach = max(1.0, 1.0 / cell)
    distances = np.abs(np.clip(positions, 0, cells - 1)[:, None] - np.arange(cells))
    weights = np.maximum(0.0, 1.0 - distances / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[(centers < start) | (centers >= stop)] = 0.0
    weights = weights.astype(np.float32)
    weights.setflags(write=False)  # the cache hands the same array to every caller
    return weights
