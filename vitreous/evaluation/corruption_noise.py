"""Noise, pixel by pixel: Gaussian, shot and impulse noise (Hendrycks and Dietterich 2019, section 4.1).

All take images, float32 (count, channels, height, width) in 0 to 1, a strength of 1 to 5 and a generator.
"""

import torch
from torch import Tensor

GAUSSIAN_DEVIATION = (0.04, 0.06, 0.08, 0.09, 0.10)
PHOTONS = (500, 250, 100, 75, 50)
IMPULSE_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)


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
