"""The 15 corruptions of CIFAR-10-C (Hendrycks and Dietterich 2019, section 4.1), generated for images of any size.

Every corruption maps images, float32 (count, channels, height, width) between 0 and 1, a severity of 1 to 5 and a
random generator to images. Lengths are given for images of 32 pixels and scaled with the shorter side. The random
numbers differ from those of the published files, so accuracies do too: `cifar10_c` reads the files themselves.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vitreous.diagnostics.robustness.filters import (
    filter_images,
    fractal_noise,
    gaussian_blur,
    motion_kernels,
    pixel_coords,
    relative_scale,
    sample_at,
)
from vitreous.errors import InputError, unknown
from vitreous.runtime import seed_for

GAUSSIAN_STD = (0.04, 0.06, 0.08, 0.09, 0.10)
PHOTONS = (500, 250, 100, 75, 50)
IMPULSE_FRACTION = (0.01, 0.02, 0.03, 0.05, 0.07)

DEFOCUS_RADIUS = (0.6, 0.8, 1.0, 1.25, 1.6)
GLASS = ((0.2, 0.5), (0.3, 0.65), (0.4, 0.8), (0.45, 1.0), (0.5, 1.25))
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.5), (9, 3.2))
ZOOM_STEPS = (6, 11, 16, 21, 26)
SUPERSAMPLING = 8

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
ELASTIC = ((0.02, 0.02), (0.03, 0.025), (0.04, 0.03), (0.05, 0.035), (0.06, 0.04))
"""Largest shift of the corners by the affine part, and standard deviation of the smooth displacement, both as fractions
of the shorter side."""
ELASTIC_SIGMA = 0.06
PIXELATE_SCALE = (0.95, 0.9, 0.85, 0.75, 0.65)
JPEG_QUALITY = (80, 65, 58, 50, 40)

LUMA = (0.299, 0.587, 0.114)
SNOW = (
    (0.10, 0.2, 1.0, 0.60, 8, 3, 0.95),
    (0.10, 0.2, 1.0, 0.50, 10, 4, 0.90),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.90),
    (0.25, 0.3, 2.25, 0.60, 12, 6, 0.85),
    (0.30, 0.3, 1.25, 0.65, 14, 12, 0.80),
)
"""Mean and standard deviation of the flakes' noise, their size, the threshold above which a flake appears, length and
standard deviation of the motion blur, and the fraction of the image that keeps its colors."""
FROST = ((1.0, 0.25), (1.0, 0.4), (0.9, 0.6), (0.85, 0.75), (0.75, 0.95))
FOG = ((0.2, 1.9), (0.5, 1.9), (0.75, 1.8), (1.0, 1.7), (1.5, 1.6))
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)

SEVERITIES = (1, 2, 3, 4, 5)
BLOCK_SIZE = 100
"""Images that share a stream of random numbers; they are corrupted together."""


def gaussian_noise(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Add normal noise to every value, as in low light."""
    return images + GAUSSIAN_STD[severity - 1] * torch.randn(images.shape, generator=random)


def shot_noise(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Add the Poisson noise of few photons; white is `PHOTONS` of them."""
    photons = PHOTONS[severity - 1]
    return torch.poisson(images * photons, generator=random) / photons


def impulse_noise(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Set a fraction of the values to 0 or 1 (salt and pepper), as bit errors do."""
    noise, fraction = torch.rand(images.shape, generator=random), IMPULSE_FRACTION[severity - 1]
    noisy = torch.where(noise < fraction / 2, 0.0, images)
    return torch.where(noise > 1 - fraction / 2, 1.0, noisy)


def defocus_blur(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Spread each point over a disk, as a lens out of focus does."""
    return filter_images(images, disk(DEFOCUS_RADIUS[severity - 1] * relative_scale(images))[None])


def disk(radius: float) -> Tensor:
    """Make a disk that sums to 1, (side, side); pixels at its rim are antialiased on a grid 8 times as fine."""
    reach = max(1, int(radius + 0.5))
    fine = (torch.arange((2 * reach + 1) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - reach - 0.5
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).float()
    kernel = inside.unflatten(0, (-1, SUPERSAMPLING)).unflatten(2, (-1, SUPERSAMPLING)).mean((1, 3))
    return kernel / kernel.sum()


def glass_blur(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Displace pixels randomly between two light blurs, as frosted glass does."""
    deviation, reach = (length * relative_scale(images) for length in GLASS[severity - 1])
    down, across = pixel_coords(images)
    moves = 2 * torch.rand(2, len(images), *images.shape[-2:], generator=random) - 1
    mixed = sample_at(gaussian_blur(images, deviation), down + reach * moves[0], across + reach * moves[1])
    return gaussian_blur(mixed, deviation)


def motion_blur(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Move each image while the shutter is open, in a random direction within 45° of horizontal."""
    length, deviation = (value * relative_scale(images) for value in MOTION[severity - 1])
    angles = (torch.rand(len(images), generator=random) - 0.5) * torch.pi / 2
    return filter_images(images, motion_kernels(length, deviation, angles))


def zoom_blur(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Average the image enlarged by 0, 1, 2, ... per cent, as for a camera moving towards it."""
    down, across = pixel_coords(images)
    center = (images.shape[-2] - 1) / 2, (images.shape[-1] - 1) / 2
    total = images.clone()
    for percent in range(ZOOM_STEPS[severity - 1]):
        factor = 1 + percent / 100
        total += sample_at(images, center[0] + (down - center[0]) / factor, center[1] + (across - center[1]) / factor)
    return total / (ZOOM_STEPS[severity - 1] + 1)


def contrast(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Move every value towards the mean of its channel."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + CONTRAST[severity - 1] * (images - mean)


def elastic_transform(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Apply a small random affine map, and a smooth random displacement."""
    count, (height, width) = len(images), images.shape[-2:]
    side = min(height, width)
    corner_shift, deviation = (fraction * side for fraction in ELASTIC[severity - 1])
    affine = corner_shift * (2 * torch.rand(2, count, 3, 1, 1, generator=random) - 1)
    noise = torch.randn(2 * count, 1, height, width, generator=random)
    smooth = gaussian_blur(noise, ELASTIC_SIGMA * side)
    smooth = deviation * smooth / smooth.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
    down, across = pixel_coords(images)
    x, y = 2 * (across + 0.5) / width - 1, 2 * (down + 0.5) / height - 1
    moves = affine[:, :, 0] + affine[:, :, 1] * x + affine[:, :, 2] * y
    moves = moves + smooth.reshape(2, count, height, width)
    return sample_at(images, down + moves[0], across + moves[1])


def pixelate(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Shrink and enlarge the image by area interpolation, so that pixels become coarse."""
    height, width = images.shape[-2:]
    coarse = max(1, int(height * PIXELATE_SCALE[severity - 1])), max(1, int(width * PIXELATE_SCALE[severity - 1]))
    return resize_by_area(resize_by_area(images, coarse), (height, width))


def resize_by_area(images: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize images by area interpolation: each new pixel is the mean of the area that it covers."""
    down, across = (area_weights(old, new) for old, new in zip(images.shape[-2:], size_hw, strict=True))
    return down @ images @ across.T


def area_weights(old: int, new: int) -> Tensor:
    """Return the fraction of each of `new` equal intervals that each of `old` covers: (new, old); rows sum to 1."""
    edges, step = torch.arange(old, dtype=torch.float32), old / new
    low = torch.arange(new, dtype=torch.float32)[:, None] * step
    return (torch.minimum(edges + 1, low + step) - torch.maximum(edges, low)).clamp(min=0) / step


def jpeg_compression(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Compress the image as JPEG and read it again."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    compressed = np.stack([_compress(image, JPEG_QUALITY[severity - 1]) for image in pixels])
    return torch.from_numpy(compressed).permute(0, 3, 1, 2).float() / 255


def _compress(image_u8: np.ndarray, quality: int) -> np.ndarray:
    """Compress one image, uint8 (height, width, channels), and read it again."""
    file = io.BytesIO()
    Image.fromarray(image_u8.squeeze(-1) if image_u8.shape[-1] == 1 else image_u8).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return np.asarray(read).reshape(image_u8.shape)


def snow(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Add falling flakes with motion blur, in two layers, to a whitened image."""
    mean, deviation, size, threshold, length, blur, kept = SNOW[severity - 1]
    scale = relative_scale(images)
    height, width = images.shape[-2:]
    coarse = max(1, round(height / (size * scale))), max(1, round(width / (size * scale)))
    noise = mean + deviation * torch.randn(len(images), 1, *coarse, generator=random)
    flakes = functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    angles = (0.25 + 0.5 * torch.rand(len(images), generator=random)) * torch.pi
    falling = filter_images(flakes, motion_kernels(length * scale, blur * scale, angles))
    white = torch.maximum(images, 1.5 * gray(images) + 0.5)
    return kept * images + (1 - kept) * white + falling + falling.rot90(2, (2, 3))


def gray(images: Tensor) -> Tensor:
    """Return the luma of each pixel (Rec. 601): (count, 1, height, width)."""
    if images.shape[1] == 1:
        return images
    return (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def frost(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Add ice crystals, which are bluish white ridges of fractal noise, to a darkened image.

    The paper overlays photographs of frost instead.
    """
    kept, ice = FROST[severity - 1]
    noise = fractal_noise((images.shape[-2], images.shape[-1]), 2 * len(images), 1.6, random)
    ridges = 1 - (2 * noise - 1).abs()
    ridges = (0.6 * ridges[::2] + 0.4 * ridges[1::2]) ** 4
    tint = torch.tensor([0.85, 0.93, 1.0]).view(1, 3, 1, 1) if images.shape[1] == 3 else 1.0
    return kept * images + ice * (0.2 + 0.8 * ridges) * tint


def fog(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Add fractal noise and scale the result back to the image's own maximum."""
    density, decay = FOG[severity - 1]
    brightest = images.amax((1, 2, 3), keepdim=True)
    drifts = fractal_noise((images.shape[-2], images.shape[-1]), len(images), decay, random)
    return (images + density * drifts) * brightest / (brightest + density)


def brightness(images: Tensor, severity: int, random: torch.Generator) -> Tensor:
    """Raise the value of HSV, the largest channel of a pixel, and keep hue and saturation."""
    value = images.amax(1, keepdim=True)
    raised = (value + BRIGHTNESS[severity - 1]).clamp(max=1)
    return torch.where(value > 0, images * raised / value.clamp(min=1e-6), raised)


@dataclass(frozen=True)
class Corruption:
    """One of the corruptions."""

    group: str
    """"noise", "blur", "weather" or "digital"."""
    corrupt: Callable[[Tensor, int, torch.Generator], Tensor]
    """Maps images, a severity and a random generator to images."""
    seed_name: str
    """The name that enters the seed; changing it would change the images."""


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", gaussian_noise, "gaussian noise"),
    "shot_noise": Corruption("noise", shot_noise, "shot noise"),
    "impulse_noise": Corruption("noise", impulse_noise, "impulse noise"),
    "defocus_blur": Corruption("blur", defocus_blur, "defocus blur"),
    "glass_blur": Corruption("blur", glass_blur, "glass blur"),
    "motion_blur": Corruption("blur", motion_blur, "motion blur"),
    "zoom_blur": Corruption("blur", zoom_blur, "zoom blur"),
    "snow": Corruption("weather", snow, "snow"),
    "frost": Corruption("weather", frost, "frost"),
    "fog": Corruption("weather", fog, "fog"),
    "brightness": Corruption("weather", brightness, "brightness"),
    "contrast": Corruption("digital", contrast, "contrast"),
    "elastic_transform": Corruption("digital", elastic_transform, "elastic"),
    "pixelate": Corruption("digital", pixelate, "pixelate"),
    "jpeg_compression": Corruption("digital", jpeg_compression, "jpeg"),
}
"""The corruptions by their published names, in the order of the paper."""


def corrupt(images_u8: Tensor, name: str, severity: int, seed: int = 0, first_index: int = 0) -> Tensor:
    """Corrupt images; the result has the same shape, type and device.

    Random numbers depend on the corruption, the seed and the index of an image alone, and are shared by all severities.

    Args:
        images_u8: uint8 (count, 1 or 3 channels, height, width).
        name: one of `CORRUPTIONS`.
        severity: 1 to 5; 0 returns the images unchanged.
        seed: of the random numbers.
        first_index: index of the first image in the whole set, a multiple of 100.

    Raises:
        InputError: the corruption or severity doesn't exist.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    if severity not in (0, *SEVERITIES):
        raise InputError(f"there is no severity {severity}: choose 1 to 5, or 0 for the unchanged image")
    assert images_u8.dtype == torch.uint8 and images_u8.ndim == 4 and images_u8.shape[1] in (1, 3), images_u8.shape
    assert first_index % BLOCK_SIZE == 0, first_index
    if severity == 0:
        return images_u8
    corruption, blocks = CORRUPTIONS[name], []
    for start in range(0, len(images_u8), BLOCK_SIZE):
        purpose = ("corruption", corruption.seed_name, first_index + start)
        random = torch.Generator().manual_seed(seed_for(seed, *purpose))
        images = images_u8[start : start + BLOCK_SIZE].float() / 255
        corrupted = corruption.corrupt(images.cpu(), severity, random)
        blocks.append((corrupted.clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(blocks).to(images_u8.device)
