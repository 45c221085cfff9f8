"""A batch of training images with its truth: labels and, where the task learns from them, boxes and masks."""

from dataclasses import dataclass, fields, replace
from typing import Literal, Self

import torch
from torch import Tensor

Truth = Literal["labels", "boxes", "masks"]
"""What a task learns from."""


@dataclass(frozen=True)
class Batch:
    """Images and what is true of them. Augmentations move both together.

    An object that is wholly outside the image has the empty box 0, 0, 0, 0, and no pixel of the mask.

    Attributes:
        images: (batch, channels, height, width).
        labels: int64 (batch), or the probability of each class, float32 (batch, classes), where images are mixed.
        boxes: int64 (batch, 4) or (batch, objects, 4): top, left, bottom, right in pixels, half-open; None unless
            asked for.
        masks: (batch, height, width), true on the object; None unless asked for.

    >>> batch = Batch(torch.zeros(4, 3, 8, 12), torch.tensor([0, 1, 1, 0]))
    >>> len(batch), batch.part(slice(1, 3)).labels
    (4, tensor([1, 1]))
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, part: slice) -> Self:
        """Return some of the images with their truth; nothing is copied."""
        return replace(self, **{name: value[part] for name, value in self.tensors().items()})

    def select(self, indexes: Tensor) -> Self:
        """Return a copy of the images at `indexes` (int64), in that order, with their truth."""
        return replace(self, **{name: value[indexes] for name, value in self.tensors().items()})

    def to(self, device: torch.device) -> Self:
        """Return the same batch in the memory of `device`."""
        return replace(self, **{name: value.to(device) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def is_object(boxes: Tensor) -> Tensor:
    """Return for boxes (..., 4) whether each has an area: bool (...)."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])


def clip_boxes(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Cut boxes (..., 4) off at the borders of an image; what has no area becomes 0, 0, 0, 0.

    >>> clip_boxes(torch.tensor([[-3, 2, 5, 20], [-3, 2, 0, 6]]), (8, 12)).tolist()
    [[0, 2, 5, 12], [0, 0, 0, 0]]
    """
    height, width = size_hw
    clipped = torch.stack([boxes[..., i].clamp(0, (height, width)[i % 2]) for i in range(4)], -1)
    return clipped * is_object(clipped)[..., None]
