"""What stands in an image where patches were removed: the mean color, a blur, or what the neighbors suggest."""

from collections.abc import Callable

import torch
from torch import Tensor

from vitreous.explanation.faithfulness.imputation import impute

Filling = Callable[[Tensor, Tensor], Tensor]
"""(which image each row is of: int64 (rows), which pixels are kept: bool (rows, height, width)) to images
(rows, channels, height, width)."""


def mean_color(inputs: Tensor) -> Filling:
    """Nought, which after normalization is the mean color of the images that the model learned from.

    `inputs` are prepared images (images, channels, height, width), here as below.
    """
    return lambda places, kept: inputs[places] * kept[:, None]


def blurred(inputs: Tensor, patch: int) -> Filling:
    """The same image out of focus: a Gaussian whose standard deviation is a patch's side, weights summing to 1."""
    down, across = (blur_matrix(side, patch).to(inputs) for side in inputs.shape[2:])
    soft = down @ inputs @ across.T
    return lambda places, kept: torch.where(kept[:, None], inputs[places], soft[places])


def imputed(inputs: Tensor, noise: Tensor) -> Filling:
    """Each removed pixel is the weighted mean of its neighbors, plus noise (as `inputs`): see imputation.py."""
    return lambda places, kept: impute(inputs[places], kept) + noise[places] * ~kept[:, None]


def blur_matrix(side: int, deviation: float) -> Tensor:
    """The weight of each pixel (column) in each blurred pixel (row) along one side: (side, side); rows sum to 1."""
    places = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * deviation**2))
    return weights / weights.sum(1, keepdim=True)
