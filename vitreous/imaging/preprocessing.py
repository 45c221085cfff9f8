"""Turn images into a model's input: resize, crop, pad and normalize."""

from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError, unknown
from vitreous.imaging.geometry import Geometry, to_pair

ResizeMode = Literal["squash", "crop", "aspect", "letterbox"]
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
FixedSizeMode = Literal["squash", "crop"]
"""The resize modes that need no padding to bring every image to one size."""
Interpolation = Literal["bicubic", "bilinear"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
LEAST_CROP = 0.01
"""The least `crop_pct`: of an image of 100 pixels a side, it keeps one."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become a model's input.

    Attributes:
        input_size: (height, width) of the input in pixels; one number means a square. "aspect" uses its area only.
        resize_mode: "squash" resizes the whole image to `input_size`, whatever its shape. "crop" resizes the shorter
            side and crops the center. "aspect" keeps the whole image and its aspect ratio, with both sides multiples
            of `patch_size`. "letterbox" fits the whole image into `input_size` and pads the rest, in whole patches,
            with the mean color.
        mean, std: one number per channel, for pixels scaled to 0..1. One channel means luma.
        patch_size: the side of a patch in pixels.
        crop_pct: the fraction of the height and width that "squash" or "crop" keeps, around the center: 0.875 is the
            usual "resize to 256, crop 224". It is 1 for "aspect" and "letterbox".
        interpolation: "bicubic" or "bilinear", with antialiasing.

    Raises:
        InputError: a value is out of range, or values don't fit each other.
    """

    input_size: tuple[int, int]
    resize_mode: ResizeMode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    patch_size: int
    crop_pct: float = 1.0
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if self.resize_mode not in RESIZE_MODES:
            raise unknown("resize mode", self.resize_mode, RESIZE_MODES)
        object.__setattr__(self, "input_size", to_pair(self.input_size))
        if not isinstance(self.patch_size, Integral) or isinstance(self.patch_size, bool) or self.patch_size < 1:
            raise InputError(f"patch_size={self.patch_size!r} is invalid: give the side of a patch in pixels, above 0")
        object.__setattr__(self, "patch_size", int(self.patch_size))
        mean, std = _numbers(self.mean), _numbers(self.std)
        if len(mean) not in (1, 3) or len(std) != len(mean) or min(std) <= 0:
            raise InputError(f"mean {self.mean} and std {self.std} don't fit: give 1 or 3 numbers each, std above 0")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        if not isinstance(self.crop_pct, Real) or isinstance(self.crop_pct, bool):
            raise InputError(f"crop_pct={self.crop_pct!r} is invalid: give a fraction of {LEAST_CROP} to 1")
        if not LEAST_CROP <= self.crop_pct <= 1 or (self.resize_mode in ("aspect", "letterbox") and self.crop_pct != 1):
            raise InputError(
                f"crop_pct is {self.crop_pct}: it must be {LEAST_CROP} to 1, and 1 for resize_mode '{self.resize_mode}'"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)


def _numbers(values: object) -> tuple[float, ...]:
    """Return finite numbers as a tuple; an empty one if they are something else."""
    listed = tuple(values) if isinstance(values, tuple | list | np.ndarray) else ()
    if not all(isinstance(value, Real) and isfinite(value) for value in listed):
        return ()
    return tuple(value if isinstance(value, int | float) else float(value) for value in listed)


def preprocess_image(image_u8: np.ndarray, preprocessing: Preprocessing) -> tuple[Tensor, Geometry]:
    """Resize and normalize one image for a model.

    Args:
        image_u8: uint8 (height, width, 3).
        preprocessing: what the model was trained with.

    Returns:
        The input, float32 (channels, height, width), and where it lies on the image.

    >>> preprocessing = Preprocessing((32, 32), "crop", (0.5,) * 3, (0.5,) * 3, patch_size=8)
    >>> pixels, geometry = preprocess_image(np.zeros((100, 200, 3), np.uint8), preprocessing)
    >>> tuple(pixels.shape), geometry.box
    ((3, 32, 32), (0.0, 50.0, 100.0, 150.0))
    """
    original_size = (image_u8.shape[0], image_u8.shape[1])
    input_size = _input_size(original_size, preprocessing)
    top, left, bottom, right = _area_in_input(original_size, preprocessing)
    box = _center_crop(crop_box(original_size, input_size, preprocessing.resize_mode), preprocessing.crop_pct)
    assert image_u8.dtype == np.uint8 and image_u8.ndim == 3 and image_u8.shape[2] == 3, image_u8.shape
    writable = np.require(image_u8, requirements=["C", "W"])  # torch warns of others; a copy only of those
    image = torch.from_numpy(writable).permute(2, 0, 1)[None]
    resized = _crop_and_resize(image, box, (bottom - top, right - left), preprocessing.interpolation)
    inputs = _normalize(resized[0].permute(1, 2, 0).contiguous().numpy(), preprocessing)
    if preprocessing.resize_mode != "letterbox":
        return inputs, Geometry(original_size, input_size, box)
    height, width = input_size
    inputs = functional.pad(inputs, (left, width - right, top, height - bottom))  # 0 is the mean
    down, across = original_size[0] / (bottom - top), original_size[1] / (right - left)  # image pixels an input pixel
    box = (-top * down, -left * across, (height - top) * down, (width - left) * across)
    return inputs, Geometry(original_size, input_size, box)


def resize_images(
    images_u8: Tensor,
    size: tuple[int, int],
    resize_mode: FixedSizeMode,
    crop_pct: float = 1.0,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """Resize images as `preprocess_image` does, to the same pixels, without normalizing them.

    Args:
        images_u8: uint8 (count, channels, height, width), with 1 or 3 channels.
        size: (height, width).
        resize_mode, crop_pct, interpolation: as in `Preprocessing`.

    Returns:
        uint8 (count, channels, *size).

    Raises:
        InputError: there is no such mode, or it doesn't give all images one size.
    """
    if resize_mode not in get_args(FixedSizeMode):
        raise unknown("resize mode for images of one size", resize_mode, get_args(FixedSizeMode))
    original_size = (images_u8.shape[2], images_u8.shape[3])
    box = _center_crop(crop_box(original_size, size, resize_mode), crop_pct)
    resized = _crop_and_resize(images_u8.expand(-1, 3, -1, -1), box, size, interpolation)
    return resized[:, : images_u8.shape[1]].contiguous()


def crop_box(
    original_size: tuple[int, int], input_size: tuple[int, int], resize_mode: str
) -> tuple[float, float, float, float]:
    """Return the (top, left, bottom, right) that a resize mode keeps of an image, in whole pixels of the image.

    >>> crop_box((100, 300), (20, 40), "crop")
    (0.0, 50.0, 100.0, 250.0)
    """
    height, width = original_size
    if resize_mode != "crop":
        return 0.0, 0.0, float(height), float(width)
    crop_height = max(1, min(height, round(width * input_size[0] / input_size[1])))
    crop_width = max(1, min(width, round(height * input_size[1] / input_size[0])))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return float(top), float(left), float(top + crop_height), float(left + crop_width)


def _input_size(original_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) of the model's input for an image."""
    if preprocessing.resize_mode != "aspect":
        return preprocessing.input_size
    patch_size = preprocessing.patch_size
    area = preprocessing.input_size[0] * preprocessing.input_size[1]
    scale = (area / (original_size[0] * original_size[1])) ** 0.5
    longest = max(1, area // patch_size**2)  # in patches: a strip one patch wide has no more of them than a square
    height, width = (min(max(1, round(side * scale / patch_size)), longest) * patch_size for side in original_size)
    return height, width


def _area_in_input(original_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Return the (top, left, bottom, right) of the image in the model's input, in input pixels: all but padding."""
    input_size, patch_size = _input_size(original_size, preprocessing), preprocessing.patch_size
    if preprocessing.resize_mode != "letterbox":
        return 0, 0, *input_size
    scale = min(side / original for side, original in zip(input_size, original_size, strict=True))
    sides = [
        min(max(1, round(original * scale / patch_size)), side // patch_size) * patch_size
        for original, side in zip(original_size, input_size, strict=True)
    ]
    top, left = ((whole - side) // patch_size // 2 * patch_size for whole, side in zip(input_size, sides, strict=True))
    return top, left, top + sides[0], left + sides[1]


def _center_crop(box: tuple[float, float, float, float], fraction: float) -> tuple[float, float, float, float]:
    """Return the center of a box, with `fraction` of its height and width, in whole pixels."""
    (top, left), (height, width) = box[:2], (box[2] - box[0], box[3] - box[1])
    crop_height, crop_width = max(1, round(fraction * height)), max(1, round(fraction * width))
    top, left = top + (height - crop_height) // 2, left + (width - crop_width) // 2
    return top, left, top + crop_height, left + crop_width


def _crop_and_resize(
    images_u8: Tensor, box: tuple[float, float, float, float], size: tuple[int, int], interpolation: str
) -> Tensor:
    """Resize the part of images inside the box, uint8 (count, 3, height, width) to (count, 3, *size), antialiased.

    The result is Pillow's up to one gray level of rounding, in a tenth of its time. It depends on the layout in memory,
    so that it is always the same one: the channels of a pixel beside each other.
    """
    top, left, bottom, right = (int(side) for side in box)
    crop = images_u8[:, :, top:bottom, left:right].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return functional.interpolate(crop, size, mode=interpolation, align_corners=False, antialias=True)


def _normalize(image_u8: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Return uint8 (height, width, 3) as float32 (channels, height, width), normalized by mean and std."""
    if len(preprocessing.mean) == 1:
        image_u8 = np.array(Image.fromarray(image_u8).convert("L"))[..., None]
    pixels = torch.from_numpy(image_u8).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return ((pixels - mean) / std).contiguous()
