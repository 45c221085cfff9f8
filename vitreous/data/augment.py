"""Batches cut, flipped and shifted on the device, all images of a batch in one gather."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vitreous.errors import InputError
from vitreous.runtime import generator


@dataclass(frozen=True)
class Augment:
    """What is done to training images; nothing by default."""

    flip: bool = False
    """Mirror every second time an image is shown, the first time by chance (Jordan 2024, "94% on CIFAR-10 in 3.29
    seconds", section 3.6: alternating flip)."""
    shift: int = 0
    """Move by up to so many pixels in each direction, borders filled by reflection."""
    cutout: int = 0
    """Side in pixels of a square that is grayed out (DeVries and Taylor 2017)."""

    def __post_init__(self) -> None:
        for name in ("shift", "cutout"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: give pixels, 0 for none")


def augment(images_u8: Tensor, indexes: Tensor, epochs: Tensor, settings: Augment, seed: int, step: int) -> Tensor:
    """Images `indexes` of a uint8 set (count, channels, height, width) as an augmented uint8 batch.

    `epochs` (batch) says how often each image was shown before. The result depends on `seed` and `step` alone.
    """
    random = generator(seed, "augment", step)
    batch, (height, width) = len(indexes), images_u8.shape[2:]
    rows = _shifted(height, batch, settings.shift, random)
    columns = _shifted(width, batch, settings.shift, random)
    if settings.flip:
        flipped = (flip_offset(len(images_u8), seed)[indexes] + epochs) % 2 == 1
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if settings.cutout:
        keep = _outside_square(batch, (height, width), settings.cutout, random)
    device = images_u8.device
    rows, columns, indexes = rows.to(device), columns.to(device), indexes.to(device)
    flat = rows[:, :, None] * width + columns[:, None, :]
    images = images_u8[indexes].flatten(2)
    shown = images.gather(2, flat.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    shown = shown.unflatten(2, (height, width))
    return torch.where(keep.to(device)[:, None], shown, 128).to(torch.uint8) if settings.cutout else shown


def flip_offset(count: int, seed: int) -> Tensor:
    """For each of `count` images, 0 or 1: whether it is mirrored the first time it is shown."""
    return torch.randint(2, (count,), generator=generator(seed, "flip"))


def _shifted(side: int, batch: int, shift: int, random: torch.Generator) -> Tensor:
    """For each image the source row (or column) of each target one, reflected at the borders: (batch, side)."""
    offsets = torch.randint(-shift, shift + 1, (batch, 1), generator=random) if shift else torch.zeros(batch, 1)
    places = torch.arange(side) + offsets.long()
    return (side - 1) - ((side - 1) - places.abs()).abs()


def _outside_square(batch: int, size_hw: tuple[int, int], square: int, random: torch.Generator) -> Tensor:
    """True outside a random square of each image (batch, height, width)."""
    inside = []
    for side in size_hw:
        first = torch.randint(1 - square, side, (batch, 1), generator=random)
        inside.append((torch.arange(side) >= first) & (torch.arange(side) < first + square))
    return ~(inside[0][:, :, None] & inside[1][:, None, :])
