"""Blur: out of focus, through frosted glass, moved, zoomed (Hendrycks and Dietterich 2019, section 4.1).

All take images, float32 (count, channels, height, width) in 0 to 1, a strength of 1 to 5 and a generator. Lengths
are in pixels of a 32-pixel image.
"""

import torch
from torch import Tensor

from vitreous.evaluation.filtering import blurred, filtered, line_kernels, places_of, read_at, scale_of

FOCUS_RADIUS = (0.6, 0.8, 1.0, 1.25, 1.6)
GLASS = ((0.2, 0.5), (0.3, 0.65), (0.4, 0.8), (0.45, 1.0), (0.5, 1.25))
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.5), (9, 3.2))
ZOOM_STEPS = (6, 11, 16, 21, 26)
FINE = 8


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
