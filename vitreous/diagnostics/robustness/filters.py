"""Building blocks of the corruptions: filters, fractal noise and resampling, all with mirrored borders.

Images are float32 (count, channels, height, width), unless a function says otherwise.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def relative_scale(images: Tensor) -> float:
    """Return the shorter side of the images over 32 pixels, the size that all lengths are given for."""
    return min(images.shape[-2:]) / 32


def filter_images(images: Tensor, kernels: Tensor) -> Tensor:
    """Filter each image with its own kernel: kernels (count, side, side), or (1, side, side) for all; side is odd."""
    count, channels = images.shape[:2]
    reach = kernels.shape[-1] // 2
    padded = symmetric_pad(images, reach)
    if len(kernels) == 1:
        weight = kernels.unsqueeze(1).expand(channels, 1, -1, -1)
        return functional.conv2d(padded, weight, groups=channels)
    weight = kernels.repeat_interleave(channels, 0).unsqueeze(1)
    flat = padded.reshape(1, count * channels, *padded.shape[-2:])
    return functional.conv2d(flat, weight, groups=count * channels).reshape(images.shape)


def symmetric_pad(images: Tensor, reach: int) -> Tensor:
    """Pad images by `reach` pixels on every side, mirrored as often as necessary; the edge pixel is repeated."""
    for axis in (-2, -1):
        length = images.shape[axis]
        indexes = torch.arange(-reach, length + reach, device=images.device) % (2 * length)
        images = images.index_select(axis, torch.minimum(indexes, 2 * length - 1 - indexes))
    return images


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Blur images with a Gaussian of this standard deviation in pixels, cut off at three standard deviations."""
    reach = max(1, round(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / max(deviation, 1e-3)) ** 2)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, -1)
    padded, groups = symmetric_pad(images, reach), images.shape[1]
    vertical = functional.conv2d(padded, weights.unsqueeze(-1), groups=groups)
    return functional.conv2d(vertical, weights.unsqueeze(-2), groups=groups)


def motion_kernels(length: float, deviation: float, angles: Tensor) -> Tensor:
    """Make motion blur kernels: lines from the center at each angle (radians), with Gaussian falloff.

    The shape is (angles, side, side). Points between pixels are distributed bilinearly.
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


def fractal_noise(size_hw: tuple[int, int], count: int, decay: float, random: torch.Generator) -> Tensor:
    """Make fractal noise, (count, 1, height, width), scaled to between 0 and 1 for each image.

    It is a sum of octaves of interpolated noise, each with half the scale and 1 / `decay` of the amplitude of the last.
    """
    height, width = size_hw
    total, weight, cell = torch.zeros(count, 1, height, width), 1.0, max(height, width)
    while cell >= 1:
        cells = -(-height // cell) + 1, -(-width // cell) + 1
        noise = torch.rand(count, 1, *cells, generator=random)
        fine_hw = ((cells[0] - 1) * cell + 1, (cells[1] - 1) * cell + 1)
        fine = functional.interpolate(noise, fine_hw, mode="bilinear", align_corners=True)
        total += weight * fine[..., :height, :width]
        weight, cell = weight / decay, cell // 2
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)


def sample_at(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Sample images bilinearly at rows and columns in pixels, (count or 1, height, width); the border is mirrored."""
    height, width = images.shape[-2:]
    grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)
    grid = grid.expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def pixel_coords(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row and the column of each pixel: both float32 (1, height, width)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32, device=images.device)
    columns = torch.arange(width, dtype=torch.float32, device=images.device)
    return rows[None, :, None].expand(1, height, width), columns[None, None].expand(1, height, width)


def translate(images_u8: Tensor, down: int, across: int) -> Tensor:
    """Translate images, uint8 (count, channels, height, width), by whole pixels; the border is mirrored."""
    height, width = images_u8.shape[-2:]
    reach = max(abs(down), abs(across))
    padded = symmetric_pad(images_u8, reach)
    return padded[..., reach - down : reach - down + height, reach - across : reach - across + width]


def rotate(images_u8: Tensor, degrees: float) -> Tensor:
    """Rotate images, uint8, counter-clockwise about their center, bilinearly; the border is mirrored."""
    if degrees == 0:
        return images_u8
    down, across = pixel_coords(images_u8)
    height, width = images_u8.shape[-2:]
    down, across = down - (height - 1) / 2, across - (width - 1) / 2
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rows = cosine * down + sine * across + (height - 1) / 2
    columns = cosine * across - sine * down + (width - 1) / 2
    rotated = sample_at(images_u8.float(), rows, columns)
    return rotated.round().clamp(0, 255).to(torch.uint8)
