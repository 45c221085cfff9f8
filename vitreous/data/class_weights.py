"""Weights for classes of unequal size."""

from collections.abc import Sequence

import torch
from torch import Tensor


def class_weights(counts: Sequence[int] | Tensor) -> Tensor:
    """Return one weight per class, inverse to its number of images, with mean 1: float32 (classes,).

    Classes without images get weight 0 and don't count in the mean.

    >>> class_weights([10, 30])
    tensor([1.5000, 0.5000])
    """
    numbers = torch.as_tensor(counts, dtype=torch.float64)
    assert numbers.ndim == 1 and (numbers >= 0).all() and numbers.any(), counts
    inverse = torch.where(numbers > 0, 1 / numbers, 0.0)
    return (inverse * (numbers > 0).sum() / inverse.sum()).float()
