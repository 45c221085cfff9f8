"""Noise, pixel by pixel: Gaussian, shot and impulse noise (Hendrycks and Dietterich 2019, section 4.1).

All take images, float32 (count, channels, height, width) in 0 to 1, a strength of 1 to 5 and a generator.
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
    blurred,
    clouds,
    filtered,
    line_kernels,
    places_of,
    read_at,
    scale_of,
)
from vitreous.errors import InputError, unknown
from vitreous.runtime import seed_for

GAUSSIAN_DEVIATION = (0.04, 0.06, 0.08, 0.09, 0.10)
PHOTONS = (500, 250, 100, 75, 50)
IMPULSE_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)


FOCUS_RADIUS = (0.6, 0.8, 1.0, 1.25, 1.6)
GLASS = ((0.2, 0.5), (0.3, 0.65), (0.4, 0.8), (0.45, 1.0), (0.5, 1.25))
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.5), (9, 3.2))
ZOOM_STEPS = (6, 11, 16, 21, 26)
FINE = 8


CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
ELASTIC = ((0.02, 0.02), (0.03, 0.025), (0.04, 0.03), (0.05, 0.035), (0.06, 0.04))
"""How far the corners of the image are moved at most, and how far its parts by standard deviation, as shares of the
shorter side."""
ELASTIC_SMOOTHNESS = 0.06
KEPT_SIDE = (0.95, 0.9, 0.85, 0.75, 0.65)
QUALITY = (80, 65, 58, 50, 40)


GRAY = (0.299, 0.587, 0.114)
SNOW = (
    (0.10, 0.2, 1.0, 0.60, 8, 3, 0.95),
    (0.10, 0.2, 1.0, 0.50, 10, 4, 0.90),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.90),
    (0.25, 0.3, 2.25, 0.60, 12, 6, 0.85),
    (0.30, 0.3, 1.25, 0.65, 14, 12, 0.80),
)
"""Mean and deviation of the flakes' noise, their size, from which value on there is one, how far and how much they are
smeared, and how much of the image keeps its colors."""
FROST = ((1.0, 0.25), (1.0, 0.4), (0.9, 0.6), (0.85, 0.75), (0.75, 0.95))
FOG = ((0.2, 1.9), (0.5, 1.9), (0.75, 1.8), (1.0, 1.7), (1.5, 1.6))
BRIGHTER = (0.05, 0.1, 0.15, 0.2, 0.3)


STRENGTHS = (1, 2, 3, 4, 5)
AT_ONCE = 100
"""Images that share a stream of random numbers; they are corrupted together."""


def gaussian_noise(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Normal noise on every number, as in low light."""
    return images + GAUSSIAN_DEVIATION[strength - 1] * torch.randn(images.shape, generator=random)


def shot_noise(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Poisson noise of light that comes in few photons; white is `PHOTONS` of them."""
    photons = PHOTONS[strength - 1]
    return torch.poisson(images * photons, generator=random) / photons


def impulse_noise(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Salt and pepper: a share of the numbers is lost to 0 or 1, as by bit errors."""
    lost, share = torch.rand(images.shape, generator=random), IMPULSE_SHARE[strength - 1]
    noisy = torch.where(lost < share / 2, 0.0, images)
    return torch.where(lost > 1 - share / 2, 1.0, noisy)


def defocus_blur(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Each point spread over a disk, as by a lens out of focus."""
    return filtered(images, disk(FOCUS_RADIUS[strength - 1] * scale_of(images))[None])


def disk(radius: float) -> Tensor:
    """A disk of weight 1: (side, side); pixels on its rim weigh as much as lies inside, on a grid 8 times as fine."""
    reach = max(1, int(radius + 0.5))
    fine = (torch.arange((2 * reach + 1) * FINE) + 0.5) / FINE - reach - 0.5
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).float()
    kernel = inside.unflatten(0, (-1, FINE)).unflatten(2, (-1, FINE)).mean((1, 3))
    return kernel / kernel.sum()


def glass_blur(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Neighboring pixels mixed up, between two light blurs, as through frosted glass."""
    deviation, reach = (length * scale_of(images) for length in GLASS[strength - 1])
    down, across = places_of(images)
    moves = 2 * torch.rand(2, len(images), *images.shape[-2:], generator=random) - 1
    mixed = read_at(blurred(images, deviation), down + reach * moves[0], across + reach * moves[1])
    return blurred(mixed, deviation)


def motion_blur(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Moved while the shutter was open, in a direction within 45° of level, another for each image."""
    length, deviation = (value * scale_of(images) for value in MOTION[strength - 1])
    angles = (torch.rand(len(images), generator=random) - 0.5) * torch.pi / 2
    return filtered(images, line_kernels(length, deviation, angles))


def zoom_blur(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Moved towards the image: the mean of it enlarged by 0, 1, 2, ... per cent."""
    down, across = places_of(images)
    middle = (images.shape[-2] - 1) / 2, (images.shape[-1] - 1) / 2
    total = images.clone()
    for percent in range(ZOOM_STEPS[strength - 1]):
        factor = 1 + percent / 100
        total += read_at(images, middle[0] + (down - middle[0]) / factor, middle[1] + (across - middle[1]) / factor)
    return total / (ZOOM_STEPS[strength - 1] + 1)


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


def snow(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Falling flakes, smeared downwards and seen twice, over a whitened image."""
    mean, deviation, size, least, length, smear, kept = SNOW[strength - 1]
    scale = scale_of(images)
    height, width = images.shape[-2:]
    coarse = max(1, round(height / (size * scale))), max(1, round(width / (size * scale)))
    noise = mean + deviation * torch.randn(len(images), 1, *coarse, generator=random)
    flakes = functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    angles = (0.25 + 0.5 * torch.rand(len(images), generator=random)) * torch.pi
    falling = filtered(flakes, line_kernels(length * scale, smear * scale, angles))
    white = torch.maximum(images, 1.5 * gray(images) + 0.5)
    return kept * images + (1 - kept) * white + falling + falling.rot90(2, (2, 3))


def gray(images: Tensor) -> Tensor:
    """How bright each pixel is (Rec. 601): (count, 1, height, width)."""
    if images.shape[1] == 1:
        return images
    return (images * torch.tensor(GRAY).view(1, 3, 1, 1)).sum(1, keepdim=True)


def frost(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Ice crystals on the pane: ridges of smooth noise, bluish white, added to a darkened image.

    The paper lays photographs of frost over the image; these are drawn.
    """
    kept, ice = FROST[strength - 1]
    noise = clouds((images.shape[-2], images.shape[-1]), 2 * len(images), 1.6, random)
    ridges = 1 - (2 * noise - 1).abs()
    ridges = (0.6 * ridges[::2] + 0.4 * ridges[1::2]) ** 4
    tint = torch.tensor([0.85, 0.93, 1.0]).view(1, 3, 1, 1) if images.shape[1] == 3 else 1.0
    return kept * images + ice * (0.2 + 0.8 * ridges) * tint


def fog(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Clouds of smooth noise added, the whole scaled back to its own greatest value."""
    density, decay = FOG[strength - 1]
    brightest = images.amax((1, 2, 3), keepdim=True)
    drifts = clouds((images.shape[-2], images.shape[-1]), len(images), decay, random)
    return (images + density * drifts) * brightest / (brightest + density)


def brightness(images: Tensor, strength: int, random: torch.Generator) -> Tensor:
    """Brighter: the greatest of a pixel's colors is raised, hue and saturation stay (the value of HSV)."""
    value = images.amax(1, keepdim=True)
    raised = (value + BRIGHTER[strength - 1]).clamp(max=1)
    return torch.where(value > 0, images * raised / value.clamp(min=1e-6), raised)


@dataclass(frozen=True)
class Kind:
    """One way to make an image worse: `corrupt(images, strength, random)`, float32 0 to 1 in and out."""

    group: str
    corrupt: Callable[[Tensor, int, torch.Generator], Tensor]


KINDS: dict[str, Kind] = {
    "gaussian noise": Kind("noise", gaussian_noise),
    "shot noise": Kind("noise", shot_noise),
    "impulse noise": Kind("noise", impulse_noise),
    "defocus blur": Kind("blur", defocus_blur),
    "glass blur": Kind("blur", glass_blur),
    "motion blur": Kind("blur", motion_blur),
    "zoom blur": Kind("blur", zoom_blur),
    "snow": Kind("weather", snow),
    "frost": Kind("weather", frost),
    "fog": Kind("weather", fog),
    "brightness": Kind("weather", brightness),
    "contrast": Kind("digital", contrast),
    "elastic": Kind("digital", elastic),
    "pixelate": Kind("digital", pixelate),
    "jpeg": Kind("digital", jpeg),
}
"""The kinds by name, in the paper's order."""


def corrupt(images_u8: Tensor, kind: str, strength: int, seed: int = 0, first: int = 0) -> Tensor:
    """Images, uint8 (count, 1 or 3 channels, height, width), made worse: the same shape and type, on the same device.

    Strength 0 leaves them as they are. What is random depends on the kind, the seed and an image's place alone:
    `first` is the place of the first one here in the whole set, a multiple of 100. All strengths of a kind share it.

    Raises:
        InputError: there is no such kind or strength.
    """
    if kind not in KINDS:
        raise unknown("corruption", kind, KINDS)
    if strength not in (0, *STRENGTHS):
        raise InputError(f"there is no strength {strength}: choose 1 to 5, or 0 for the image as it is")
    assert images_u8.dtype == torch.uint8 and images_u8.ndim == 4 and images_u8.shape[1] in (1, 3), images_u8.shape
    assert first % AT_ONCE == 0, first
    if strength == 0:
        return images_u8
    parts = []
    for start in range(0, len(images_u8), AT_ONCE):
        random = torch.Generator().manual_seed(seed_for(seed, "corruption", kind, first + start))
        images = images_u8[start : start + AT_ONCE].float() / 255
        worse = KINDS[kind].corrupt(images.cpu(), strength, random)
        parts.append((worse.clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(parts).to(images_u8.device)
