"""Labeled images in memory: pixels, labels, class names and, if known, the objects' boxes and masks."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, repr=False)
class ImageSet:
    """Labeled images of one size.

    Attributes:
        images_u8: uint8 (count, channels, height, width), values 0 to 255.
        labels: int64 (count,), indexes into `class_names`.
        class_names: one name per class, in the order of the labels.
        boxes: int64 (count, 4), each object's top, left, bottom, right in pixels, half-open; None if unknown.
        masks: bool (count, height, width), true on the object; None if unknown.

    >>> ImageSet(torch.zeros(5, 3, 8, 12, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64), ("cat", "dog"))
    ImageSet(5 images of 3 × 8 × 12, 2 classes)
    """

    images_u8: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    boxes: Tensor | None = None
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        assert self.images_u8.dtype == torch.uint8 and self.images_u8.ndim == 4, self.images_u8.shape
        count, _, height, width = self.images_u8.shape
        assert self.labels.dtype == torch.int64 and self.labels.shape == (count,), self.labels.shape
        assert count == 0 or (self.labels.min() >= 0 and self.labels.max() < len(self.class_names)), (
            "label out of range"
        )
        if self.boxes is not None:
            assert self.boxes.dtype == torch.int64 and self.boxes.shape == (count, 4), self.boxes.shape
        if self.masks is not None:
            assert self.masks.dtype == torch.bool and self.masks.shape == (count, height, width), self.masks.shape

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.images_u8.shape[1:]))
        return f"ImageSet({len(self):,} images of {shape}, {len(self.class_names):,} classes)"

    def select(self, indexes: Tensor | np.ndarray | list[int]) -> "ImageSet":
        """Return the images at `indexes` (integers), in that order, with their labels, boxes and masks."""
        index = torch.as_tensor(indexes, dtype=torch.int64)
        return replace(self, **{name: value[index] for name, value in self._tensors().items()})

    def to(self, device: torch.device) -> "ImageSet":
        """Return the same images in the memory of `device`."""
        return replace(self, **{name: value.to(device) for name, value in self._tensors().items()})

    def with_channels(self, channels: int) -> "ImageSet":
        """Return gray images with their channel repeated for a model that takes RGB; others as they are.

        >>> gray = ImageSet(torch.zeros(5, 1, 8, 12, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64), ("a", "b"))
        >>> gray.with_channels(3)
        ImageSet(5 images of 3 × 8 × 12, 2 classes)
        """
        is_gray = self.images_u8.shape[1] == 1 and channels == 3
        return replace(self, images_u8=self.images_u8.expand(-1, 3, -1, -1)) if is_gray else self

    def fingerprint(self, truth: Collection[str] = ()) -> str:
        """Return the SHA-256, in hex, of shape, pixels, labels and class names: equal data have it on any machine.

        It is of boxes and masks too, if they are named in `truth`.
        """
        digest = hashlib.sha256(repr((tuple(self.images_u8.shape), self.class_names)).encode())
        more = [self._tensors().get(name) for name in ("boxes", "masks") if name in truth]
        for tensor in (self.images_u8, self.labels, *more):
            if tensor is not None and tensor.numel():  # a memoryview of nothing can't be cast
                digest.update(memoryview(tensor.cpu().contiguous().numpy()).cast("B"))
        return digest.hexdigest()

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}
