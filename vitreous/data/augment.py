"""Flip, shift and cut out batches of images on the device, with their truth; all images of a batch in one gather."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitreous.data.batch import Batch, clip_boxes
from vitreous.data.rand_augment import MOST_MAGNITUDE, OPERATIONS, draw_operations, rand_augment
from vitreous.errors import InputError
from vitreous.runtime import generator

MOST_ALPHA = 1000.0
"""Of a beta distribution; that of this one is a half, give or take a hundredth."""

MOST_OPS = len(OPERATIONS)


@dataclass(frozen=True)
class Augment:
    """The augmentations of training images; none by default.

    Raises:
        InputError: a number is out of its range.

    Attributes:
        flip: Mirror an image every second time it is used, the first time at random (Jordan 2024, "94% on CIFAR-10 in
            3.29 seconds", section 3.6: alternating flip).
        shift: Translate by up to this many pixels in each direction; borders are filled by reflection.
        cutout: The side in pixels of a square that becomes gray (DeVries and Taylor 2017).
        mixup: Mix each image and its label with another of the batch, in parts drawn from the beta distribution with
            this parameter: 0.2 mixes little, 0.8 much, 0 not at all (Zhang et al. 2018, "mixup").
        cutmix: Paste a box of another image, of an area drawn likewise; 1 is usual (Yun et al. 2019, "CutMix"). With
            both, each batch is mixed in one of the two ways.
        randaugment_ops: Change each image by so many operations at random, such as rotations, shears, contrast and
            posterizing (Cubuk et al. 2020, "RandAugment"); 2 is usual, 0 for none.
        randaugment_magnitude: How far the operations go, of 10 as in the paper and in timm: 9 is usual. The same in
            torchvision, of 30, is three times as much.
        randaugment_magnitude_std: Standard deviation of the magnitude of each operation (timm: mstd).
    """

    flip: bool = False
    shift: int = 0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment_ops: int = 0
    randaugment_magnitude: float = 9.0
    randaugment_magnitude_std: float = 0.5

    def __post_init__(self) -> None:
        for name in ("shift", "cutout"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: give pixels, 0 for none")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) <= MOST_ALPHA:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 to {MOST_ALPHA:g}, 0 for none")
        if not 0 <= self.randaugment_ops <= MOST_OPS:
            raise InputError(f"randaugment_ops is {self.randaugment_ops}: it must be 0 to {MOST_OPS}, 0 for none")
        for name in ("randaugment_magnitude", "randaugment_magnitude_std"):
            if not 0 <= getattr(self, name) <= MOST_MAGNITUDE:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 to {MOST_MAGNITUDE:g}")


def augment(batch: Batch, flipped: Tensor | None, settings: Augment, seed: int, step: int) -> Batch:
    """Augment a batch, images and truth alike. The result depends on its arguments alone.

    Masks are shifted and mirrored as the images are, with their borders filled by the same reflection. Boxes follow
    the object, not its reflection, and are cut off at the borders. RandAugment comes next; what it moves, it moves
    with its truth. Cutout comes last and changes the images only: the object is still where it was.

    Args:
        batch: uint8 images, and their truth.
        flipped: bool (batch,), which of them are mirrored; None for none.
        settings: the augmentations.
        seed: the run's seed.
        step: the number of the batch.
    """
    random = generator(seed, "augment", step)
    count, size_hw = len(batch), (batch.images.shape[2], batch.images.shape[3])
    down, across = (_draw_shifts(count, settings.shift, random) for _ in size_hw)
    keep = _outside_square(count, size_hw, settings.cutout, random) if settings.cutout else None
    moved = _shift_and_flip(batch, down, across, flipped)
    if settings.randaugment_ops:
        magnitudes = settings.randaugment_magnitude, settings.randaugment_magnitude_std
        random = generator(seed, "randaugment", step)
        moved = rand_augment(moved, draw_operations(count, settings.randaugment_ops, *magnitudes, random))
    if keep is None:
        return moved
    images = torch.where(keep.to(moved.images.device)[:, None], moved.images, 128).to(torch.uint8)
    return replace(moved, images=images)


def flipped_images(indexes: Tensor, epochs: Tensor, count: int, seed: int) -> Tensor:
    """Return which images are mirrored this time: every second time, the first time at random.

    Args:
        indexes: int64 (batch,), which images of the set.
        epochs: int64 (batch,), how often each of them was used before.
        count: the number of images in the set.
        seed: the run's seed.
    """
    return (torch.randint(2, (count,), generator=generator(seed, "flip"))[indexes] + epochs) % 2 == 1


def _draw_shifts(count: int, shift: int, random: torch.Generator) -> Tensor:
    """Draw int64 (count, 1), of at most `shift` pixels."""
    if not shift:
        return torch.zeros(count, 1, dtype=torch.int64)
    return torch.randint(-shift, shift + 1, (count, 1), generator=random)


def _shift_and_flip(batch: Batch, down: Tensor, across: Tensor, flipped: Tensor | None) -> Batch:
    """Move each image up and to the left, by (batch, 1) pixels, and mirror some, all in one gather."""
    height, width = batch.images.shape[2:]
    device = batch.images.device
    rows, columns = _reflected(torch.arange(height) + down), _reflected(torch.arange(width) + across)
    if flipped is not None:
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    rows, columns = rows.to(device), columns.to(device)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    images = batch.images.flatten(2)
    images = images.gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).unflatten(2, (height, width))
    moved = replace(batch, images=images)
    if batch.masks is not None:
        moved = replace(moved, masks=batch.masks.flatten(1).gather(1, pixels).unflatten(1, (height, width)))
    if batch.boxes is not None:
        shifts = torch.cat([down, across, down, across], 1).to(device)
        moved = replace(moved, boxes=_move_boxes(batch.boxes, shifts, flipped, (height, width)))
    return moved


def _move_boxes(boxes: Tensor, shifts: Tensor, flipped: Tensor | None, size_hw: tuple[int, int]) -> Tensor:
    """Move boxes (batch, ..., 4) up and to the left by (batch, 4) pixels, and mirror some."""
    between = [1] * (boxes.ndim - 2)
    boxes = boxes - shifts.view(-1, *between, 4)
    if flipped is not None:
        top, left, bottom, right = boxes.unbind(-1)
        mirrored = torch.stack([top, size_hw[1] - right, bottom, size_hw[1] - left], -1)
        boxes = torch.where(flipped.to(boxes.device).view(-1, *between, 1), mirrored, boxes)
    return clip_boxes(boxes, size_hw)


def _reflected(positions: Tensor) -> Tensor:
    """Return the positions (batch, side) with those outside of 0 to side - 1 reflected at the borders."""
    last = positions.shape[1] - 1
    return last - (last - positions.abs()).abs()


def _outside_square(batch: int, size_hw: tuple[int, int], square: int, random: torch.Generator) -> Tensor:
    """Return bool (batch, height, width): true outside a random square of each image."""
    inside = []
    for side in size_hw:
        first = torch.randint(1 - square, side, (batch, 1), generator=random)
        inside.append((torch.arange(side) >= first) & (torch.arange(side) < first + square))
    return ~(inside[0][:, :, None] & inside[1][:, None, :])
