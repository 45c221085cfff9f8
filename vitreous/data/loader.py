"""The order in which images are used, and the batches that follow from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from vitreous.data.augment import Augment, augment, flipped_images
from vitreous.data.batch import Batch, Truth
from vitreous.data.image_set import ImageSet
from vitreous.data.mixing import check_truth, mix_batch
from vitreous.errors import InputError
from vitreous.runtime import generator

INFERENCE_BATCH, LARGE_INFERENCE_BATCH = 500, 100
LARGE_PIXELS = 128 * 128
"""An image of this many pixels is large: inference takes smaller batches of them, for the memory."""


@dataclass(frozen=True)
class TrainingBatches:
    """An endless sequence of batches in which every epoch uses each image once, in a new order.

    The orders of the epochs follow each other without a gap, so all batches are full. Batch n is a function of the
    seed and n alone: there is no position to save.

    Attributes:
        images: the training images.
        batch_size: images a batch.
        augment: how they are augmented.
        seed: the run's seed.
        normalize: applied to each batch.
        device: where batches are put, if the images are elsewhere because they don't fit there.
        truth: what the task learns from. Labels are always in a batch, boxes and masks if they are named here.

    Raises:
        InputError: the images have no such truth, or it can't be mixed as `augment` says.
    """

    images: ImageSet
    batch_size: int
    augment: Augment
    seed: int
    normalize: "Normalize" = field(kw_only=True)
    device: torch.device | None = field(default=None, kw_only=True)
    truth: tuple[Truth, ...] = field(default=("labels",), kw_only=True)

    def __post_init__(self) -> None:
        for name in self.truth:
            if getattr(self.images, name) is None:
                raise InputError(f"the training images have no {name}: give a source with {name}, such as shapes")
        check_truth(self.truth, self.augment)

    def batch(self, step: int) -> Batch:
        """Return batch `step` on the device: normalized images and their truth, augmented together.

        If images are mixed, labels are soft: float32 (batch, classes).
        """
        positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        count = len(self.images)
        epochs = positions // count
        indexes = torch.cat(
            [epoch_order(count, self.seed, int(e))[positions[epochs == e] % count] for e in epochs.unique()]
        )
        flipped = flipped_images(indexes, epochs, count, self.seed) if self.augment.flip else None
        augmented = augment(self._select(indexes), flipped, self.augment, self.seed, step)
        batch = augmented.to(self.device or self.images.labels.device)
        batch = replace(batch, images=self.normalize(batch.images))
        if self.augment.mixup or self.augment.cutmix:
            return mix_batch(batch, len(self.images.class_names), self.augment, self.seed, step)
        return batch

    def _select(self, indexes: Tensor) -> Batch:
        """Return the images at `indexes` and their truth, as they are, where the images are."""
        images = self.images
        indexes = indexes.to(images.labels.device)
        return Batch(
            images.images_u8[indexes],
            images.labels[indexes],
            images.boxes[indexes] if images.boxes is not None and "boxes" in self.truth else None,
            images.masks[indexes] if images.masks is not None and "masks" in self.truth else None,
        )


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Return the order of `count` images in one epoch: int64 (count,)."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


@dataclass(frozen=True)
class Normalize:
    """Turn uint8 images into float32: (value / 255 − mean) / standard deviation, for each channel."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images_u8: Tensor) -> Tensor:
        """Normalize uint8 (batch, channels, height, width)."""
        mean = torch.tensor(self.mean, device=images_u8.device).view(-1, 1, 1) * 255
        std = torch.tensor(self.std, device=images_u8.device).view(-1, 1, 1) * 255
        return (images_u8 - mean) / std


def inference_batch_size(images: ImageSet) -> int:
    """Return how many of these images go through a model together when no gradients are needed."""
    height, width = images.images_u8.shape[2:]
    return INFERENCE_BATCH if height * width < LARGE_PIXELS else LARGE_INFERENCE_BATCH


def sequential_batches(images: ImageSet, batch_size: int, normalize: Normalize) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images once, in order and not augmented, with their labels: what evaluation uses."""
    for first in range(0, len(images), batch_size):
        batch = slice(first, first + batch_size)
        yield normalize(images.images_u8[batch]), images.labels[batch]
