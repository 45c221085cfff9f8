"""Weather: snow, frost, fog and bright light (Hendrycks and Dietterich 2019, section 4.1).

All take images, float32 (count, channels, height, width) in 0 to 1, a strength of 1 to 5 and a generator. Lengths
are in pixels of a 32-pixel image.
"""

import torch
from torch import Tensor
from torch.nn import functional

from vitreous.evaluation.filtering import clouds, filtered, line_kernels, scale_of

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
