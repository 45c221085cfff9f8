"""The order in which images are used, and the batches that follow from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from vitreous.data.augment import Augment, augment
from vitreous.data.image_set import ImageSet
from vitreous.data.mixing import mix_batch
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
    """

    images: ImageSet
    batch_size: int
    augment: Augment
    seed: int
    normalize: "Normalize" = field(kw_only=True)
    device: torch.device | None = field(default=None, kw_only=True)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return batch `step` on the device: normalized images (batch, channels, height, width), labels (batch,).

        If images are mixed, labels are soft: float32 (batch, classes).
        """
        positions = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        count = len(self.images)
        epochs = positions // count
        indexes = torch.cat(
            [epoch_order(count, self.seed, int(e))[positions[epochs == e] % count] for e in epochs.unique()]
        )
        images_u8 = augment(self.images.images_u8, indexes, epochs, self.augment, self.seed, step)
        labels = self.images.labels[indexes.to(self.images.labels.device)]
        device = self.device or labels.device
        images, labels = self.normalize(images_u8.to(device)), labels.to(device)
        if self.augment.mixup or self.augment.cutmix:
            return mix_batch(images, labels, len(self.images.class_names), self.augment, self.seed, step)
        return images, labels


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
