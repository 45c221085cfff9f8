"""Imputation of removed pixels by their neighbors (Rong et al. 2022), and the other ways to fill them.

The imputed pixels solve a Laplace equation. Conjugate gradients alone (Hestenes and Stiefel 1952) need a thousand steps
for a large hole in an image of 224 pixels; preconditioned by one multigrid cycle per step (Tatebe 1993) they need about
ten, whatever the size.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

DIAGONAL = 1 / 12
"""Weight of a diagonal neighbor; a direct neighbor has twice as much (Rong et al. 2022, section 4)."""
DAMPING = 0.8
SMOOTHINGS = 2
COARSEST_SIDE, COARSEST_SMOOTHINGS = 4, 8
TOLERANCE = 1e-3
"""Norm of the residual, relative to that of the right-hand side; the error is smaller than the noise that is added."""
BATCH_PIXELS = {"cpu": 2**16, "cuda": 2**24}
"""Pixels that are solved together; on a CPU as many as fit into its cache."""

Fill = Callable[[Tensor, Tensor], Tensor]
"""Maps the index of each row's image, int64 (rows), and the kept pixels, bool (rows, height, width), to images
(rows, channels, height, width)."""


def neighbor_sum(planes: Tensor) -> Tensor:
    """Return the weighted sum of each pixel's up to eight neighbors inside the image: (..., height, width).

    Except for the center, the weights are the outer product of (1, 2, 1) / √12 with itself.
    """
    return _one_two_one(_one_two_one(planes, -1), -2) * DIAGONAL - planes * (4 * DIAGONAL)


def laplacian(planes: Tensor) -> Tensor:
    """Return each pixel times the sum of its neighbors' weights, minus the weighted sum of its neighbors."""
    height, width = planes.shape[-2:]
    return _degree(height, width, planes.dtype, planes.device) * planes - neighbor_sum(planes)


def solve_laplace(right: Tensor, unknown: Tensor, start: Tensor, tolerance: float) -> Tensor:
    """Solve laplacian(x) = right for the unknown pixels; x is zero at the others.

    Each plane is a system of its own. Its iteration ends by its own residual, so the result doesn't depend on the rest
    of the batch.

    Args:
        right: the right-hand side (batch, planes, height, width).
        unknown: 1 where a pixel is unknown, else 0: (batch, 1, height, width).
        start: first guess, as `right`.
        tolerance: norm of the residual over that of `right` at which the iteration ends.
    """
    masks = coarse_masks(unknown)
    found, residual = start * unknown, unknown * (right - laplacian(start * unknown))
    threshold = tolerance * _dot(right, right).sqrt()
    direction, power = torch.zeros_like(found), torch.ones_like(threshold)
    for step in range(right.shape[-2] * right.shape[-1]):
        unsolved = _dot(residual, residual).sqrt() > threshold
        if not unsolved.any():
            break
        preconditioned = multigrid_cycle(residual, masks)
        new = _dot(residual, preconditioned)
        direction = preconditioned + (new / power if step else 0) * direction
        product, power = unknown * laplacian(direction), torch.where(unsolved, new, 1)
        stride = torch.where(unsolved, new / _dot(direction, product), 0)
        found, residual = found + stride * direction, residual - stride * product
    return found


def coarse_masks(unknown: Tensor) -> list[Tensor]:
    """Return the mask on coarser and coarser grids, from its own; a coarse pixel is unknown if all its pixels are."""
    masks = [unknown]
    while min(masks[-1].shape[-2:]) > COARSEST_SIDE:
        known = torch.nn.functional.max_pool2d(1 - masks[-1], 2, ceil_mode=True)
        masks.append(1 - known)
    return masks


def multigrid_cycle(right: Tensor, masks: list[Tensor]) -> Tensor:
    """Solve laplacian(x) = right on the unknown pixels approximately, by one symmetric V-cycle through all grids."""
    unknown = masks[0]
    found = jacobi_smooth(
        torch.zeros_like(right), right, unknown, SMOOTHINGS if len(masks) > 1 else COARSEST_SMOOTHINGS
    )
    if len(masks) == 1:
        return found
    down, across = (_from_coarse(side, right.dtype, right.device) for side in right.shape[-2:])
    rest = unknown * (right - laplacian(found))
    found = found + unknown * (down @ multigrid_cycle(masks[1] * (down.T @ rest @ across), masks[1:]) @ across.T)
    return jacobi_smooth(found, right, unknown, SMOOTHINGS)


def jacobi_smooth(found: Tensor, right: Tensor, unknown: Tensor, times: int) -> Tensor:
    """Apply damped Jacobi steps towards laplacian(x) = right to `found`."""
    step = DAMPING * unknown / _degree(*right.shape[-2:], right.dtype, right.device)
    for _ in range(times):
        found = found + step * (right - laplacian(found))
    return found


def _one_two_one(planes: Tensor, axis: int) -> Tensor:
    last = planes.shape[axis] - 1
    result = 2 * planes
    result.narrow(axis, 1, last).add_(planes.narrow(axis, 0, last))
    result.narrow(axis, 0, last).add_(planes.narrow(axis, 1, last))
    return result


@lru_cache(maxsize=64)
def _degree(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the sum of the weights of each pixel's neighbors: (height, width); it is 1, but less at the border."""
    return neighbor_sum(torch.ones(height, width, dtype=dtype, device=device))


@lru_cache(maxsize=64)
def _from_coarse(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix of bilinear interpolation from half as many pixels: (side, half); rows sum to 1."""
    half = -(-side // 2)
    positions = ((torch.arange(side, dtype=torch.float64) + 0.5) / 2 - 0.5).clamp(0, half - 1)
    weights = (1 - (positions[:, None] - torch.arange(half)).abs()).clamp_min(0)
    return weights.to(dtype).to(device)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((-2, -1), keepdim=True)


@torch.no_grad()
def impute(images: Tensor, kept: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Replace each removed pixel by the weighted mean of its neighbors; kept pixels stay equal to the bit.

    The removed pixels are the unknowns of a sparse linear system, one per image. At the border the mean is over the
    existing neighbors. Multiplied by the sum of their weights, the system is the Laplacian of a graph, which is
    symmetric and positive definite.

    Args:
        images: (batch, channels, height, width).
        kept: bool (batch, height, width); some pixel of each image must be kept.
        tolerance: norm of the residual over that of the right-hand side at which the iteration ends.
    """
    batch_size = max(1, BATCH_PIXELS[images.device.type] // kept[0].numel())
    batches = zip(images.split(batch_size), kept.split(batch_size), strict=True)
    return torch.cat([_impute(*batch, tolerance) for batch in batches])


def _impute(images: Tensor, kept: Tensor, tolerance: float) -> Tensor:
    assert kept.flatten(1).any(1).all(), "an image without kept pixels can't be imputed"
    unknown, mask = (~kept[:, None]).to(images.dtype), kept[:, None]
    level = (images * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    # Relative to the mean color of the image, the norm of the right-hand side measures contrast alone.
    known = (images - level) * mask
    found = solve_laplace(unknown * neighbor_sum(known), unknown, torch.zeros_like(images), tolerance)
    return torch.where(mask, images, found + level)


def mean_color_fill(inputs: Tensor) -> Fill:
    """Fill with zero, which after normalization is the mean color of the training images.

    `inputs` are preprocessed images (images, channels, height, width), here as below.
    """
    return lambda indexes, kept: inputs[indexes] * kept[:, None]


def blur_fill(inputs: Tensor, patch_size: int) -> Fill:
    """Fill with the blurred image; the standard deviation of the Gaussian is the side of a patch."""
    down, across = (blur_matrix(side, patch_size).to(inputs) for side in inputs.shape[2:])
    blurred = down @ inputs @ across.T
    return lambda indexes, kept: torch.where(kept[:, None], inputs[indexes], blurred[indexes])


def imputation_fill(inputs: Tensor, noise: Tensor) -> Fill:
    """Fill with the weighted mean of the neighbors, plus noise of the shape of `inputs`."""
    return lambda indexes, kept: impute(inputs[indexes], kept) + noise[indexes] * ~kept[:, None]


def blur_matrix(side: int, deviation: float) -> Tensor:
    """Return the weight of each pixel (column) in each blurred pixel (row): (side, side); rows sum to 1."""
    positions = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((positions[:, None] - positions) ** 2) / (2 * deviation**2))
    return weights / weights.sum(1, keepdim=True)
