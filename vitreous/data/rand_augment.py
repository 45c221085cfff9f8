"""RandAugment: each image gets a few operations at random, all of one magnitude, and its truth moves with it.

The operations and their ranges are those of Cubuk et al. 2020 ("RandAugment"), whose table is in Cubuk et al. 2019
("AutoAugment"). They equal Pillow's. Those images of a batch that drew one operation are changed together, each by its
own parameter, on the device.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.data.affine import rotation, transform_affine
from vitreous.data.batch import Batch

MOST_MAGNITUDE = 10.0
"""The magnitude at which an operation's parameter is at the end of its range, as in the paper and in timm."""
MOST_DEGREES, MOST_SHEAR, MOST_TRANSLATION, MOST_ENHANCEMENT = 30.0, 0.3, 150 / 331, 0.9
"""Ends of the ranges. The paper translates by up to 150 pixels; its images have 331."""


@dataclass(frozen=True)
class Draw:
    """The operation of each image of a batch, on the CPU.

    Attributes:
        kinds: int64 (batch), indexes into `OPERATIONS`.
        levels: float64 (batch), -1 to 1: the part of the operation's range, and the direction.
    """

    kinds: Tensor
    levels: Tensor


def draw_operations(
    count: int, ops: int, magnitude: float, magnitude_std: float, random: torch.Generator
) -> tuple[Draw, ...]:
    """Draw `ops` operations for each of `count` images, every operation as likely as any other.

    Args:
        count: the number of images.
        ops: operations an image, one after the other.
        magnitude: 0 to 10.
        magnitude_std: the standard deviation of each operation's magnitude, which stays between 0 and 10.
        random: where the numbers come from.
    """
    shape = (ops, count)
    kinds = torch.randint(len(OPERATIONS), shape, generator=random)
    signs = torch.randint(2, shape, generator=random) * 2 - 1
    noise = torch.randn(shape, generator=random, dtype=torch.float64)
    levels = ((magnitude + magnitude_std * noise) / MOST_MAGNITUDE).clamp(0, 1) * signs
    return tuple(Draw(*drawn) for drawn in zip(kinds, levels, strict=True))


def rand_augment(batch: Batch, draws: tuple[Draw, ...]) -> Batch:
    """Apply the operations that were drawn to a batch of uint8 images with one or three channels, and to its truth."""
    batch = replace(batch, **{name: value.clone() for name, value in batch.tensors().items()})
    size_hw = (batch.images.shape[2], batch.images.shape[3])
    for draw in draws:
        geometric = (draw.kinds >= OPERATIONS.index("rotate")).nonzero().flatten()
        if len(geometric):
            _transform(batch, draw, geometric, size_hw)
        for name, change in PIXEL_OPERATIONS.items():
            chosen = (draw.kinds == OPERATIONS.index(name)).nonzero().flatten()
            if len(chosen):
                indexes = chosen.to(batch.images.device)
                batch.images[indexes] = change(batch.images[indexes], draw.levels[chosen])
    return batch


def _transform(batch: Batch, draw: Draw, chosen: Tensor, size_hw: tuple[int, int]) -> None:
    """Transform the images at `chosen` in place: rotations, shears and translations in one call."""
    kinds, levels = draw.kinds[chosen], draw.levels[chosen]
    matrices = torch.empty(len(chosen), 2, 3, dtype=torch.float64)
    for name, make in GEOMETRIC_OPERATIONS.items():
        is_kind = kinds == OPERATIONS.index(name)
        matrices[is_kind] = make(levels[is_kind], size_hw)
    indexes = chosen.to(batch.images.device)
    moved = transform_affine(batch.select(indexes), matrices).tensors()
    for name, whole in batch.tensors().items():
        whole[indexes] = moved[name]


def auto_contrast(images: Tensor, levels: Tensor) -> Tensor:
    """Stretch the values of each channel to 0 to 255, as `ImageOps.autocontrast`."""
    values = images.flatten(2)
    lowest, highest = (bound.double()[..., None] for bound in (values.amin(2), values.amax(2)))
    is_flat = highest <= lowest
    span = torch.where(is_flat, 255, highest - lowest)
    scale = torch.full_like(span, 255) / span  # 255 / span would multiply by the reciprocal, which rounds differently
    stretched = torch.arange(256, device=images.device) * scale + torch.where(is_flat, 0, -lowest * scale)
    return _look_up(images, stretched.clamp(0, 255).to(torch.uint8))


def equalize(images: Tensor, levels: Tensor) -> Tensor:
    """Make all values of each channel about as frequent, as `ImageOps.equalize`."""
    counts = _histograms(images)
    highest = images.flatten(2).amax(2, keepdim=True).long()
    step = (counts.sum(2, keepdim=True) - counts.gather(2, highest)) // 255
    before = counts.cumsum(2) - counts
    equalized = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return _look_up(images, torch.where(step > 0, equalized, torch.arange(256, device=images.device)).to(torch.uint8))


def solarize(images: Tensor, levels: Tensor) -> Tensor:
    """Invert the values from a threshold on, which is 256 at magnitude 0 and 0 at 10, as `ImageOps.solarize`."""
    thresholds = _per_image(256 - (256 * levels.abs()).round(), images)
    return torch.where(images < thresholds, images, 255 - images)


def posterize(images: Tensor, levels: Tensor) -> Tensor:
    """Keep the highest bits of each value, 8 at magnitude 0 and 4 at 10, as `ImageOps.posterize`."""
    dropped = (4 * levels.abs()).round().to(torch.uint8)
    kept = 255 - (2**dropped - 1)
    return images & _per_image(kept, images).to(torch.uint8)


def adjust_color(images: Tensor, levels: Tensor) -> Tensor:
    """Take saturation away or add some, as `ImageEnhance.Color`; images with one channel stay as they are."""
    return _blend(_grayscale(images), images, levels)


def adjust_contrast(images: Tensor, levels: Tensor) -> Tensor:
    """Move values towards the mean gray or away from it, as `ImageEnhance.Contrast`."""
    gray = _grayscale(images).flatten(1).long()
    mean = (2 * gray.sum(1) + gray.shape[1]) // (2 * gray.shape[1])
    return _blend(_per_image(mean, images), images, levels)


def adjust_brightness(images: Tensor, levels: Tensor) -> Tensor:
    """Darken or brighten, as `ImageEnhance.Brightness`."""
    return _blend(torch.zeros((), device=images.device), images, levels)


def adjust_sharpness(images: Tensor, levels: Tensor) -> Tensor:
    """Smooth or sharpen, as `ImageEnhance.Sharpness`; the outermost pixels stay as they are."""
    values = images.float()
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * values[..., 1:-1, 1:-1]
    smooth = values.clone()
    smooth[..., 1:-1, 1:-1] = (sums / 13 + 0.5).floor()  # 13: the sum of the weights, 5 in the center and 8 around it
    return _blend(smooth, images, levels)


def _blend(other: Tensor, images: Tensor, levels: Tensor) -> Tensor:
    """Blend another image, at level -1, with an image, at 0, and go beyond it, as `Image.blend` at 1 + 0.9 · level."""
    other, factors = other.float(), _per_image(1 + MOST_ENHANCEMENT * levels, images).float()
    return (other + factors * (images.float() - other)).clamp(0, 255).to(torch.uint8)


def _grayscale(images: Tensor) -> Tensor:
    """Return the gray of images, int32 (batch, 1, height, width), as `Image.convert("L")`."""
    if images.shape[1] == 1:
        return images.int()
    assert images.shape[1] == 3, images.shape
    red, green, blue = images.int().split(1, 1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _histograms(images: Tensor) -> Tensor:
    """Count the values of each channel: int64 (batch, channels, 256)."""
    batch, channels = images.shape[:2]
    first = 256 * torch.arange(batch * channels, device=images.device).view(batch, channels, 1)
    return torch.bincount((images.flatten(2) + first).flatten(), minlength=256 * batch * channels).view(
        batch, channels, 256
    )


def _look_up(images: Tensor, table: Tensor) -> Tensor:
    """Replace values by those of a table for each channel, uint8 (batch, channels, 256)."""
    return table.gather(2, images.flatten(2).long()).view_as(images)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """Return one value an image (batch) so that it meets each of its pixels."""
    return values.to(images.device).view(-1, 1, 1, 1)


def _translation(levels: Tensor, size_hw: tuple[int, int], axis: int) -> Tensor:
    """Return matrices that translate images by whole pixels, along x (axis 0) or y."""
    matrices = torch.eye(2, 3, dtype=torch.float64).repeat(len(levels), 1, 1)
    matrices[:, axis, 2] = (levels * MOST_TRANSLATION * size_hw[1 - axis]).round()
    return matrices


def _shear(levels: Tensor, axis: int) -> Tensor:
    """Return matrices that shear images along x (axis 0) or y, with the top left corner where it is."""
    matrices = torch.eye(2, 3, dtype=torch.float64).repeat(len(levels), 1, 1)
    matrices[:, axis, 1 - axis] = MOST_SHEAR * levels
    return matrices


PIXEL_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "solarize": solarize,
    "color": adjust_color,
    "posterize": posterize,
    "contrast": adjust_contrast,
    "brightness": adjust_brightness,
    "sharpness": adjust_sharpness,
}
GEOMETRIC_OPERATIONS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "rotate": lambda levels, size_hw: rotation(MOST_DEGREES * levels, size_hw),
    "shear_x": lambda levels, size_hw: _shear(levels, 0),
    "shear_y": lambda levels, size_hw: _shear(levels, 1),
    "translate_x": lambda levels, size_hw: _translation(levels, size_hw, 0),
    "translate_y": lambda levels, size_hw: _translation(levels, size_hw, 1),
}
OPERATIONS = ("identity", *PIXEL_OPERATIONS, *GEOMETRIC_OPERATIONS)
"""What `Draw.kinds` counts. The order is part of a run's random numbers."""
