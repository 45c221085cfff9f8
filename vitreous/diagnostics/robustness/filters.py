"""What corruptions are made of: filters with mirrored borders, smooth noise, and images read at other places.

All work on float32 (count, channels, height, width).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def scale_of(images: Tensor) -> float:
    """How long a pixel of a 32-pixel image is in these images, whose shorter side counts."""
    return min(images.shape[-2:]) / 32


def filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Each image filtered with its own kernel: kernels (count, side, side) or (1, side, side), side odd."""
    count, channels = images.shape[:2]
    reach = kernels.shape[-1] // 2
    padded = mirrored(images, reach)
    if len(kernels) == 1:
        weight = kernels.unsqueeze(1).expand(channels, 1, -1, -1)
        return functional.conv2d(padded, weight, groups=channels)
    weight = kernels.repeat_interleave(channels, 0).unsqueeze(1)
    flat = padded.reshape(1, count * channels, *padded.shape[-2:])
    return functional.conv2d(flat, weight, groups=count * channels).reshape(images.shape)


def mirrored(images: Tensor, reach: int) -> Tensor:
    """Images with `reach` pixels more on every side, mirrored as often as it takes."""
    for axis in (-2, -1):
        length = images.shape[axis]
        places = torch.arange(-reach, length + reach, device=images.device) % (2 * length)
        images = images.index_select(axis, torch.minimum(places, 2 * length - 1 - places))
    return images


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Gaussian blur with a standard deviation in pixels, cut off at three of them."""
    reach = max(1, round(3 * deviation))
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / max(deviation, 1e-3)) ** 2)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, -1)
    padded, groups = mirrored(images, reach), images.shape[1]
    rows = functional.conv2d(padded, weights.unsqueeze(-1), groups=groups)
    return functional.conv2d(rows, weights.unsqueeze(-2), groups=groups)


def line_kernels(length: float, deviation: float, angles: Tensor) -> Tensor:
    """The kernels of a movement: from the center in the direction of each angle (radians), falling off as a Gaussian.

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


def read_at(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Images read at other places, mirrored beyond the border; both (count or 1, height, width), in pixels."""
    height, width = images.shape[-2:]
    grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    grid = grid.expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def places_of(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's own row and column: both float32 (1, height, width)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32, device=images.device)
    columns = torch.arange(width, dtype=torch.float32, device=images.device)
    return rows[None, :, None].expand(1, height, width), columns[None, None].expand(1, height, width)


def shifted(images_u8: Tensor, down: int, across: int) -> Tensor:
    """Images, uint8 (count, channels, height, width), moved by whole pixels; what comes in is mirrored."""
    height, width = images_u8.shape[-2:]
    reach = max(abs(down), abs(across))
    padded = mirrored(images_u8, reach)
    return padded[..., reach - down : reach - down + height, reach - across : reach - across + width]


def rotated(images_u8: Tensor, degrees: float) -> Tensor:
    """Images turned about their middle, counter-clockwise, read bilinearly; the corners that come in are mirrored."""
    if degrees == 0:
        return images_u8
    down, across = places_of(images_u8)
    height, width = images_u8.shape[-2:]
    down, across = down - (height - 1) / 2, across - (width - 1) / 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rows = cosine * down + sine * across + (height - 1) / 2
    columns = cosine * across - sine * down + (width - 1) / 2
    turned = read_at(images_u8.float(), rows, columns)
    return turned.round().clamp(0, 255).to(torch.uint8)
