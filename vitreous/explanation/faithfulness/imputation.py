"""Filling holes in pictures so that no edge tells where they were (noisy linear imputation, Rong et al. 2022, §4)."""

import torch
from torch import Tensor

from vitreous.explanation.faithfulness.multigrid import neighbour_sum, solve

TOLERANCE = 1e-3
"""Of the equations, relative to the length of their right-hand side: no worse than the noise that is added."""

PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**24}
"""Solved together: on a processor as many as its cache holds."""


@torch.no_grad()
def impute(pictures: Tensor, kept: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Pictures (batch, channels, height, width) in which each pixel that isn't kept is its neighbours' weighted mean.

    The removed pixels are the unknowns of a sparse linear system, one a picture; at the border the mean is over the
    neighbours that there are. Multiplied by the sum of their weights, it is the Laplacian of a graph: symmetric and
    positive definite. Kept pixels come back as they were.

    Args:
        kept: bool (batch, height, width); some pixel of each picture must be kept.
        tolerance: where to stop: the length of what the equations still miss, over that of their right-hand side.
    """
    at_once = max(1, PIXELS_AT_ONCE[pictures.device.type] // kept[0].numel())
    parts = zip(pictures.split(at_once), kept.split(at_once), strict=True)
    return torch.cat([_impute(*part, tolerance) for part in parts])


def _impute(pictures: Tensor, kept: Tensor, tolerance: float) -> Tensor:
    assert kept.flatten(1).any(1).all(), "a picture of which nothing is kept can't be filled"
    unknown, mask = (~kept[:, None]).to(pictures.dtype), kept[:, None]
    level = (pictures * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    # About its own mean colour, a picture's equations have a right-hand side that only its contrast makes long.
    known = (pictures - level) * mask
    found = solve(unknown * neighbour_sum(known), unknown, torch.zeros_like(pictures), tolerance)
    return torch.where(mask, pictures, found + level)
