"""The order in which images are shown, and the batches that come of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from vitreous.data.augment import Augment, augment
from vitreous.data.image_set import ImageSet
from vitreous.runtime import generator

AT_ONCE, LARGE_AT_ONCE = 500, 100
LARGE_PIXELS = 128 * 128
"""From so many pixels on an image is large: fewer go together, for the memory they take."""


@dataclass(frozen=True)
class TrainingBatches:
    """An endless row of batches in which every epoch shows each image once, in a new order.

    The epochs' orders follow each other without a gap, so all batches are full. Batch n is a function of the seed
    and n alone: there is no position to save.
    """

    images: ImageSet
    batch_size: int
    augment: Augment
    seed: int
    normalize: "Normalize" = field(kw_only=True)
    device: torch.device | None = field(default=None, kw_only=True)
    """Where batches are wanted, if the images lie elsewhere because they don't fit there."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch `step`: normalized images (batch, channels, height, width) and labels (batch), on the device."""
        places = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        count = len(self.images)
        epochs = places // count
        indexes = torch.cat(
            [epoch_order(count, self.seed, int(e))[places[epochs == e] % count] for e in epochs.unique()]
        )
        shown = augment(self.images.images_u8, indexes, epochs, self.augment, self.seed, step)
        labels = self.images.labels[indexes.to(self.images.labels.device)]
        device = self.device or labels.device
        return self.normalize(shown.to(device)), labels.to(device)


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of `count` images in one epoch."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


@dataclass(frozen=True)
class Normalize:
    """uint8 images to float32: (value / 255 − mean) / standard deviation, a channel at a time."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images_u8: Tensor) -> Tensor:
        """(batch, channels, height, width) uint8 to float32."""
        mean = torch.tensor(self.mean, device=images_u8.device).view(-1, 1, 1) * 255
        std = torch.tensor(self.std, device=images_u8.device).view(-1, 1, 1) * 255
        return (images_u8 - mean) / std


def inference_batch_size(images: ImageSet) -> int:
    """How many images go through a model together where no gradients are wanted."""
    height, width = images.images_u8.shape[2:]
    return AT_ONCE if height * width < LARGE_PIXELS else LARGE_AT_ONCE


def sequential_batches(images: ImageSet, batch_size: int, normalize: Normalize) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once, in order and as they are: what evaluation reads."""
    for first in range(0, len(images), batch_size):
        chosen = slice(first, first + batch_size)
        yield normalize(images.images_u8[chosen]), images.labels[chosen]
