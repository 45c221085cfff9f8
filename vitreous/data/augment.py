"""Flip, shift and cut out batches of images on the device, all images of a batch in one gather."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.runtime import generator

MOST_ALPHA = 1000.0
"""Of a beta distribution; that of this one is a half, give or take a hundredth."""


@dataclass(frozen=True)
class Augment:
    """The augmentations of training images; none by default.

    Raises:
        InputError: a number is negative.

    Attributes:
        flip: Mirror an image every second time it is used, the first time at random (Jordan 2024, "94% on CIFAR-10 in
            3.29 seconds", section 3.6: alternating flip).
        shift: Translate by up to this many pixels in each direction; borders are filled by reflection.
        cutout: The side in pixels of a square that becomes gray (DeVries and Taylor 2017).
        mixup: Mix each image and its label with another of the batch, in parts drawn from the beta distribution with
            this parameter: 0.2 mixes little, 0.8 much, 0 not at all (Zhang et al. 2018, "mixup").
        cutmix: Paste a box of another image, of an area drawn likewise; 1 is usual (Yun et al. 2019, "CutMix"). With
            both, each batch is mixed in one of the two ways.
    """

    flip: bool = False
    shift: int = 0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "cutout"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: give pixels, 0 for none")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) <= MOST_ALPHA:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 to {MOST_ALPHA:g}, 0 for none")


def augment(images_u8: Tensor, indexes: Tensor, epochs: Tensor, settings: Augment, seed: int, step: int) -> Tensor:
    """Return some images of a set as an augmented batch. The result depends on `seed` and `step` alone.

    Args:
        images_u8: uint8 (count, channels, height, width), the whole set.
        indexes: int64 (batch,), which images.
        epochs: int64 (batch,), how often each of them was used before.
        settings: the augmentations.
        seed: the run's seed.
        step: the number of the batch.

    Returns:
        uint8 (batch, channels, height, width).
    """
    random = generator(seed, "augment", step)
    batch, (height, width) = len(indexes), images_u8.shape[2:]
    rows = _shifted_positions(height, batch, settings.shift, random)
    columns = _shifted_positions(width, batch, settings.shift, random)
    if settings.flip:
        flipped = (flip_offset(len(images_u8), seed)[indexes] + epochs) % 2 == 1
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if settings.cutout:
        keep = _outside_square(batch, (height, width), settings.cutout, random)
    device = images_u8.device
    rows, columns, indexes = rows.to(device), columns.to(device), indexes.to(device)
    pixels = rows[:, :, None] * width + columns[:, None, :]
    images = images_u8[indexes].flatten(2)
    augmented = images.gather(2, pixels.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    augmented = augmented.unflatten(2, (height, width))
    if not settings.cutout:
        return augmented
    return torch.where(keep.to(device)[:, None], augmented, 128).to(torch.uint8)


def flip_offset(count: int, seed: int) -> Tensor:
    """Return 0 or 1 for each of `count` images: whether it is mirrored the first time."""
    return torch.randint(2, (count,), generator=generator(seed, "flip"))


def _shifted_positions(side: int, batch: int, shift: int, random: torch.Generator) -> Tensor:
    """Return the source row (or column) of each target row, reflected at the borders: (batch, side)."""
    offsets = torch.randint(-shift, shift + 1, (batch, 1), generator=random) if shift else torch.zeros(batch, 1)
    positions = torch.arange(side) + offsets.long()
    return (side - 1) - ((side - 1) - positions.abs()).abs()


def _outside_square(batch: int, size_hw: tuple[int, int], square: int, random: torch.Generator) -> Tensor:
    """Return bool (batch, height, width): true outside a random square of each image."""
    inside = []
    for side in size_hw:
        first = torch.randint(1 - square, side, (batch, 1), generator=random)
        inside.append((torch.arange(side) >= first) & (torch.arange(side) < first + square))
    return ~(inside[0][:, :, None] & inside[1][:, None, :])
