"""Classes of unequal size: how unequal, and the weights that make up for it."""

from collections.abc import Sequence

import torch
from torch import Tensor


def class_weights(counts: Sequence[int] | Tensor) -> Tensor:
    """A weight a class, inverse to its number of images, with a mean of 1: float32 (classes).

    Classes without images get 0 and don't count in the mean.
    """
    numbers = torch.as_tensor(counts, dtype=torch.float64)
    assert numbers.ndim == 1 and (numbers >= 0).all() and numbers.any(), counts
    inverse = torch.where(numbers > 0, 1 / numbers, 0.0)
    return (inverse * (numbers > 0).sum() / inverse.sum()).float()
