"""Digital changes: contrast, elastic deformation, coarse pixels, JPEG (Hendrycks and Dietterich 2019, section 4.1).

All take images, float32 (count, channels, height, width) in 0 to 1, a strength of 1 to 5 and a generator.
"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.evaluation.filtering import blurred, places_of, read_at

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
ELASTIC = ((0.02, 0.02), (0.03, 0.025), (0.04, 0.03), (0.05, 0.035), (0.06, 0.04))
"""How far the corners of the image are moved at most, and how far its parts by standard deviation, as shares of the
shorter side."""
ELASTIC_SMOOTHNESS = 0.06
KEPT_SIDE = (0.95, 0.9, 0.85, 0.75, 0.65)
QUALITY = (80, 65, 58, 50, 40)


def contrast(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Every number brought nearer to its channel's mean over the image."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + CONTRAST[strength - 1] * (images - mean)


def elastic(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Stretched and turned a little as a whole, and each part moved smoothly its own way."""
    count, (height, width) = len(images), images.shape[-2:]
    side = min(height, width)
    whole, parts = (share * side for share in ELASTIC[strength - 1])
    affine = whole * (2 * torch.rand(2, count, 3, 1, 1, generator=random) - 1)
    noise = torch.randn(2 * count, 1, height, width, generator=random)
    smooth = blurred(noise, ELASTIC_SMOOTHNESS * side)
    smooth = parts * smooth / smooth.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
    down, across = places_of(images)
    level, upright = 2 * (across + 0.5) / width - 1, 2 * (down + 0.5) / height - 1
    moves = affine[:, :, 0] + affine[:, :, 1] * level + affine[:, :, 2] * upright
    moves = moves + smooth.reshape(2, count, height, width)
    return read_at(images, down + moves[0], across + moves[1])


def pixelate(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Shrunk and enlarged again, both by areas, so that pixels become coarse."""
    height, width = images.shape[-2:]
    coarse = max(1, int(height * KEPT_SIDE[strength - 1])), max(1, int(width * KEPT_SIDE[strength - 1]))
    return resized_by_area(resized_by_area(images, coarse), (height, width))


def resized_by_area(images: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Images at another size: each new pixel is the mean of the area that it covers, shares of pixels included."""
    down, across = (shares(old, new) for old, new in zip(images.shape[-2:], size_hw, strict=True))
    return down @ images @ across.T


def shares(old: int, new: int) -> Tensor:
    """What share of each of `new` equal stretches each of `old` covers: (new, old), rows add to 1."""
    edges, step = torch.arange(old, dtype=torch.float32), old / new
    low = torch.arange(new, dtype=torch.float32)[:, None] * step
    return (torch.minimum(edges + 1, low + step) - torch.maximum(edges, low)).clamp(min=0) / step


def jpeg(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Saved as JPEG and read again."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    saved = np.stack([_saved(image, QUALITY[strength - 1]) for image in pixels])
    return torch.from_numpy(saved).permute(0, 3, 1, 2).float() / 255


def _saved(image_u8: np.ndarray, quality: int) -> np.ndarray:
    """One image, uint8 (height, width, channels), through a JPEG file in memory."""
    file = io.BytesIO()
    Image.fromarray(image_u8.squeeze(-1) if image_u8.shape[-1] == 1 else image_u8).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read).reshape(image_u8.shape)
