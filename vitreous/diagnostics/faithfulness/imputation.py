"""Solving many images' Laplace equations at once: conjugate gradients, each step helped by ever coarser grids.

Conjugate gradients alone (Hestenes and Stiefel 1952) need a thousand steps for a large hole in an image of 224 pixels;
preconditioned by one multigrid cycle a step (Tatebe 1993) they need about ten, whatever the size.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

DIAGONAL = 1 / 12
"""Weight of a diagonal neighbor; a nearest one has twice as much (Rong et al. 2022, section 4)."""
DAMPING = 0.8
SMOOTHINGS = 2
COARSEST_SIDE, COARSEST_SMOOTHINGS = 4, 8


TOLERANCE = 1e-3
"""Of the equations, relative to the length of their right-hand side: no worse than the noise that is added."""
PIXELS_AT_ONCE = {"cpu": 2**16, "cuda": 2**24}
"""Solved together: on a processor as many as its cache holds."""


Filling = Callable[[Tensor, Tensor], Tensor]
"""(which image each row is of: int64 (rows), which pixels are kept: bool (rows, height, width)) to images
(rows, channels, height, width)."""


def neighbor_sum(planes: Tensor) -> Tensor:
    """The weighted sum of each pixel's up to eight neighbors (..., height, width); there are none beyond the border.

    The weights are a product of (1, 2, 1) / √12 down and across, but for the middle.
    """
    return _one_two_one(_one_two_one(planes, -1), -2) * DIAGONAL - planes * (4 * DIAGONAL)


def laplacian(planes: Tensor) -> Tensor:
    """Each pixel times the sum of its neighbors' weights, less the weighted sum of its neighbors."""
    height, width = planes.shape[-2:]
    return _degree(height, width, planes.dtype, planes.device) * planes - neighbor_sum(planes)


def solve(right: Tensor, unknown: Tensor, start: Tensor, tolerance: float) -> Tensor:
    """x, nought where not `unknown`, with laplacian(x) = right where unknown: all (batch, planes, height, width).

    Each plane is a system of its own, left alone once its residual is shorter than `tolerance` times `right`, so
    the result doesn't depend on what else is in the batch.

    Args:
        unknown: 1 or 0, (batch, 1, height, width).
    """
    masks = coarser(unknown)
    found, residual = start * unknown, unknown * (right - laplacian(start * unknown))
    enough = tolerance * _dot(right, right).sqrt()
    direction, power = torch.zeros_like(found), torch.ones_like(enough)
    for step in range(right.shape[-2] * right.shape[-1]):
        unsolved = _dot(residual, residual).sqrt() > enough
        if not unsolved.any():
            break
        helped = cycle(residual, masks)
        new = _dot(residual, helped)
        direction = helped + (new / power if step else 0) * direction
        image, power = unknown * laplacian(direction), torch.where(unsolved, new, 1)
        stride = torch.where(unsolved, new / _dot(direction, image), 0)
        found, residual = found + stride * direction, residual - stride * image
    return found


def coarser(unknown: Tensor) -> list[Tensor]:
    """The mask on ever coarser grids, its own first; a coarse pixel is unknown if all that it is made of are."""
    masks = [unknown]
    while min(masks[-1].shape[-2:]) > COARSEST_SIDE:
        known = torch.nn.functional.max_pool2d(1 - masks[-1], 2, ceil_mode=True)
        masks.append(1 - known)
    return masks


def cycle(right: Tensor, masks: list[Tensor]) -> Tensor:
    """Roughly x of laplacian(x) = right on the unknown pixels: one symmetric cycle through all grids (a V)."""
    unknown = masks[0]
    found = smoothed(torch.zeros_like(right), right, unknown, SMOOTHINGS if len(masks) > 1 else COARSEST_SMOOTHINGS)
    if len(masks) == 1:
        return found
    down, across = (_from_coarse(side, right.dtype, right.device) for side in right.shape[-2:])
    rest = unknown * (right - laplacian(found))
    found = found + unknown * (down @ cycle(masks[1] * (down.T @ rest @ across), masks[1:]) @ across.T)
    return smoothed(found, right, unknown, SMOOTHINGS)


def smoothed(found: Tensor, right: Tensor, unknown: Tensor, times: int) -> Tensor:
    """`found` after so many damped Jacobi steps towards laplacian(x) = right."""
    share = DAMPING * unknown / _degree(*right.shape[-2:], right.dtype, right.device)
    for _ in range(times):
        found = found + share * (right - laplacian(found))
    return found


def _one_two_one(planes: Tensor, axis: int) -> Tensor:
    last = planes.shape[axis] - 1
    result = 2 * planes
    result.narrow(axis, 1, last).add_(planes.narrow(axis, 0, last))
    result.narrow(axis, 0, last).add_(planes.narrow(axis, 1, last))
    return result


@lru_cache(maxsize=64)
def _degree(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The sum of the weights of each pixel's neighbors (height, width): 1, but less at the border."""
    return neighbor_sum(torch.ones(height, width, dtype=dtype, device=device))


@lru_cache(maxsize=64)
def _from_coarse(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Bilinear interpolation from half as many pixels along a side: (side, half); rows sum to 1."""
    half = -(-side // 2)
    places = ((torch.arange(side, dtype=torch.float64) + 0.5) / 2 - 0.5).clamp(0, half - 1)
    weights = (1 - (places[:, None] - torch.arange(half)).abs()).clamp_min(0)
    return weights.to(dtype).to(device)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((-2, -1), keepdim=True)


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
