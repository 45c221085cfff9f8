"""From an image's pixels to a model's and back: what the model saw, and where on the image its map belongs."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitreous.errors import InputError, unknown
from vitreous.imaging.geometry import Geometry

ResizeMode = Literal["squash", "crop", "aspect", "letterbox"]
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its images.

    Attributes:
        size_hw: the model's own (height, width) in pixels; for "aspect" it sets the area only.
        resize: "squash" squashes the whole image to `size_hw`; "crop" fits the shorter side and cuts out the
            center; "aspect" keeps the whole image and its aspect ratio, with both sides multiples of `multiple`;
            "letterbox" does so within `size_hw`, the rest of which is filled with the mean color in whole patches.
        mean, std: one number a channel, for pixels scaled to 0..1; one channel means luma.
        multiple: the patch size in pixels.
        central: share of the height and width that "squash" or "crop" would show which is kept, around the center:
            0.875 is the usual "resize to 256, crop 224". 1 for "aspect" and "letterbox".
        interpolation: "bicubic" or "bilinear", antialiased either way.
    """

    input_size: tuple[int, int]
    resize_mode: ResizeMode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    patch_size: int
    crop_pct: float = 1.0
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        if self.resize_mode not in RESIZE_MODES:
            raise unknown("resize rule", self.resize_mode, RESIZE_MODES)
        if min(*self.input_size, self.patch_size) < 1:
            raise InputError(f"size {self.input_size} and multiple {self.patch_size} must be positive: give pixels")
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise InputError(f"mean {self.mean} and std {self.std} don't fit: give 1 or 3 numbers each, std above 0")
        if not 0 < self.crop_pct <= 1 or (self.resize_mode in ("aspect", "letterbox") and self.crop_pct != 1):
            raise InputError(
                f"the central share {self.crop_pct} must be above 0 and at most 1, and 1 for '{self.resize_mode}'"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)


def preprocess_image(image_u8: np.ndarray, preprocessing: Preprocessing) -> tuple[Tensor, Geometry]:
    """Resize and normalize uint8 (height, width, 3) for a model: float32 (channels, height, width), with geometry."""
    source_hw = (image_u8.shape[0], image_u8.shape[1])
    model_hw = _model_size(source_hw, preprocessing)
    inner = _inner(source_hw, preprocessing)
    box = _central(crop_box(source_hw, model_hw, preprocessing.resize_mode), preprocessing.crop_pct)
    image = _resized(image_u8, box, (inner[2] - inner[0], inner[3] - inner[1]), preprocessing.interpolation)
    if len(preprocessing.mean) == 1:
        image = np.array(Image.fromarray(image).convert("L"))[..., None]
    pixels = torch.from_numpy(image).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    inputs = ((pixels - mean) / std).contiguous()
    if preprocessing.resize_mode != "letterbox":
        return inputs, Geometry(source_hw, model_hw, box)
    (top, left, bottom, right), (height, width) = inner, model_hw
    inputs = functional.pad(inputs, (left, width - right, top, height - bottom))  # 0 is the mean
    tall, wide = source_hw[0] / (bottom - top), source_hw[1] / (right - left)  # source pixels a pixel
    box = (-top * tall, -left * wide, (height - top) * tall, (width - left) * wide)
    return inputs, Geometry(source_hw, model_hw, box)


def resize_image(image_u8: np.ndarray, size_hw: tuple[int, int], resize_mode: Literal["squash", "crop"]) -> np.ndarray:
    """Bring uint8 (height, width, 3) to uint8 (*size_hw, 3) as `Preprocessing` would, without normalizing."""
    if resize_mode not in ("squash", "crop"):
        raise unknown("resize rule for images of one size", resize_mode, ("squash", "crop"))
    source_hw = (image_u8.shape[0], image_u8.shape[1])
    return _resized(image_u8, crop_box(source_hw, size_hw, resize_mode), size_hw)


def _model_size(source_hw: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """The (height, width) the model is given, in pixels."""
    if preprocessing.resize_mode != "aspect":
        return preprocessing.input_size
    multiple = preprocessing.patch_size
    area = preprocessing.input_size[0] * preprocessing.input_size[1]
    scale = (area / (source_hw[0] * source_hw[1])) ** 0.5
    longest = max(1, area // multiple**2)  # in patches: a strip one patch wide has no more of them than any other
    height, width = (min(max(1, round(side * scale / multiple)), longest) * multiple for side in source_hw)
    return height, width


def _inner(source_hw: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """The (top, left, bottom, right) of the image within what the model is given, in its pixels."""
    model_hw, multiple = _model_size(source_hw, preprocessing), preprocessing.patch_size
    if preprocessing.resize_mode != "letterbox":
        return 0, 0, *model_hw
    scale = min(model / source for model, source in zip(model_hw, source_hw, strict=True))
    sides = [
        min(max(1, round(source * scale / multiple)), model // multiple) * multiple
        for source, model in zip(source_hw, model_hw, strict=True)
    ]
    top, left = ((model - side) // multiple // 2 * multiple for model, side in zip(model_hw, sides, strict=True))
    return top, left, top + sides[0], left + sides[1]


def crop_box(
    source_hw: tuple[int, int], model_hw: tuple[int, int], resize_mode: str
) -> tuple[float, float, float, float]:
    """The (top, left, bottom, right) that the model sees, in whole source pixels."""
    height, width = source_hw
    if resize_mode != "crop":
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
