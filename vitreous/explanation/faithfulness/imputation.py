"""Filling holes in images so that no edge tells where they were (noisy linear imputation, Rong et al. 2022, §4)."""

import torch
from torch import Tensor

from vitreous.explanation.faithfulness.multigrid import neighbor_sum, solve

TOLERANCE = 1e-3
"""Of the equations, relative to the length of their right-hand side: no worse than the noise that is added."""

PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**24}
"""Solved together: on a processor as many as its cache holds."""


@torch.no_grad()
def impute(images: Tensor, kept: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Images (batch, channels, height, width) in which each pixel that isn't kept is its neighbors' weighted mean.

    The removed pixels are the unknowns of a sparse linear system, one an image; at the border the mean is over the
    neighbors that there are. Multiplied by the sum of their weights, it is the Laplacian of a graph: symmetric and
    positive definite. Kept pixels come back as they were.

    Args:
        kept: bool (batch, height, width); some pixel of each image must be kept.
        tolerance: where to stop: the length of what the equations still miss, over that of their right-hand side.
    """
    at_once = max(1, PIXELS_AT_ONCE[images.device.type] // kept[0].numel())
    parts = zip(images.split(at_once), kept.split(at_once), strict=True)
    return torch.cat([_impute(*part, tolerance) for part in parts])


def _impute(images: Tensor, kept: Tensor, tolerance: float) -> Tensor:
    assert kept.flatten(1).any(1).all(), "an image of which nothing is kept can't be filled"
    unknown, mask = (~kept[:, None]).to(images.dtype), kept[:, None]
    level = (images * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    # About its own mean color, an image's equations have a right-hand side that only its contrast makes long.
    known = (images - level) * mask
    found = solve(unknown * neighbor_sum(known), unknown, torch.zeros_like(images), tolerance)
    return torch.where(mask, images, found + level)
