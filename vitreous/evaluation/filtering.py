"""What corruptions are made of: filters with mirrored borders, smooth noise, and pictures read at other places.

All work on float32 (count, channels, height, width).
"""

import torch
from torch import Tensor
from torch.nn import functional


def scale_of(pictures: Tensor) -> float:
    """How long a pixel of a 32-pixel picture is in these pictures, whose shorter side counts."""
    return min(pictures.shape[-2:]) / 32


def filtered(pictures: Tensor, kernels: Tensor) -> Tensor:
    """Each picture filtered with its own kernel: kernels (count, side, side) or (1, side, side), side odd."""
    count, channels = pictures.shape[:2]
    reach = kernels.shape[-1] // 2
    padded = mirrored(pictures, reach)
    if len(kernels) == 1:
        weight = kernels.unsqueeze(1).expand(channels, 1, -1, -1)
        return functional.conv2d(padded, weight, groups=channels)
    weight = kernels.repeat_interleave(channels, 0).unsqueeze(1)
    flat = padded.reshape(1, count * channels, *padded.shape[-2:])
    return functional.conv2d(flat, weight, groups=count * channels).reshape(pictures.shape)


def mirrored(pictures: Tensor, reach: int) -> Tensor:
    """Pictures with `reach` pixels more on every side, mirrored as often as it takes."""
    for axis in (-2, -1):
        length = pictures.shape[axis]
        places = torch.arange(-reach, length + reach, device=pictures.device) % (2 * length)
        pictures = pictures.index_select(axis, torch.minimum(places, 2 * length - 1 - places))
    return pictures


def blurred(pictures: Tensor, deviation: float) -> Tensor:
    """Gaussian blur with a standard deviation in pixels, cut off at three of them."""
    reach = max(1, round(3 * deviation))
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / max(deviation, 1e-3)) ** 2)
    weights = (weights / weights.sum()).expand(pictures.shape[1], 1, -1)
    padded, groups = mirrored(pictures, reach), pictures.shape[1]
    rows = functional.conv2d(padded, weights.unsqueeze(-1), groups=groups)
    return functional.conv2d(rows, weights.unsqueeze(-2), groups=groups)


def line_kernels(length: float, deviation: float, angles: Tensor) -> Tensor:
    """The kernels of a movement: from the centre in the direction of each angle (radians), falling off as a Gaussian.

    Gives (angles, side, side). Places between pixels are shared by the four around them.
    """
    reach = max(1, round(length))
    steps = torch.arange(0, reach + 1e-6, 0.5)
    weights = torch.exp(-0.5 * (steps / deviation) ** 2)
    down, across = steps * angles.sin()[:, None], steps * angles.cos()[:, None]
    grid = torch.arange(-reach, reach + 1, dtype=torch.float32)
    near_rows = (1 - (grid - down.unsqueeze(-1)).abs()).clamp(min=0)
    near_columns = (1 - (grid - across.unsqueeze(-1)).abs()).clamp(min=0)
    kernels = torch.einsum("s,nsi,nsj->nij", weights, near_rows, near_columns)
    return kernels / kernels.sum((1, 2), keepdim=True)


def clouds(size_hw: tuple[int, int], count: int, decay: float, random: torch.Generator) -> Tensor:
    """Smooth noise of all sizes, from 0 to 1 in each: (count, 1, height, width).

    Octaves of interpolated noise, each half as wide as the one before and `decay` times as weak.
    """
    height, width = size_hw
    total, weight, cell = torch.zeros(count, 1, height, width), 1.0, max(height, width)
    while cell >= 1:
        places = -(-height // cell) + 1, -(-width // cell) + 1
        noise = torch.rand(count, 1, *places, generator=random)
        fine_hw = ((places[0] - 1) * cell + 1, (places[1] - 1) * cell + 1)
        fine = functional.interpolate(noise, fine_hw, mode="bilinear", align_corners=True)
        total += weight * fine[..., :height, :width]
        weight, cell = weight / decay, cell // 2
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)


def read_at(pictures: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Pictures read at other places, mirrored beyond the border; both (count or 1, height, width), in pixels."""
    height, width = pictures.shape[-2:]
    grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    grid = grid.expand(len(pictures), -1, -1, -1)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def places_of(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's own row and column: both float32 (1, height, width)."""
    height, width = pictures.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32, device=pictures.device)
    columns = torch.arange(width, dtype=torch.float32, device=pictures.device)
    return rows[None, :, None].expand(1, height, width), columns[None, None].expand(1, height, width)
