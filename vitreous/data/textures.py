"""Images with the statistics of natural ones, for measurements that need images but no dataset."""

import numpy as np

from vitreous.errors import InputError

LEAVES, NOISES = 4, 4
DISCS = 1500
SEED = 0


def natural_textures(size_hw: tuple[int, int]) -> list[np.ndarray]:
    """Return nine images, uint8 (height, width, 3): dead leaves, pink noise, and black. They depend on the size alone.

    Raises:
        InputError: a side has no pixels.
    """
    if min(size_hw) < 1:
        raise InputError(f"can't draw images of {size_hw[0]} × {size_hw[1]} pixels")
    random = np.random.default_rng(SEED)
    leaves = [dead_leaves(size_hw, random) for _ in range(LEAVES)]
    noises = [pink_noise(size_hw, random) for _ in range(NOISES)]
    return [*leaves, *noises, np.zeros((*size_hw, 3), np.uint8)]


def dead_leaves(size_hw: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Draw discs of random colors that occlude one another, as objects do: uint8 (height, width, 3).

    The density of their radii r is proportional to r⁻³ (Lee, Mumford and Huang 2001, "Occlusion Models for
    Natural Images"), from a 75th of the larger side to half of it.
    """
    image, side = np.zeros((*size_hw, 3), np.uint8), max(size_hw)
    radii = np.minimum(side / 75 / np.sqrt(1 - random.random(DISCS)), side / 2)
    centers = random.random((DISCS, 2)) * size_hw
    colors = random.integers(0, 256, (DISCS, 3))
    for radius, (y, x), color in zip(radii, centers, colors, strict=True):
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        area = image[top : int(y + radius) + 2, left : int(x + radius) + 2]
        rows, columns = (np.arange(length) for length in area.shape[:2])
        area[(rows[:, None] + top - y) ** 2 + (columns + left - x) ** 2 < radius**2] = color
    return image


def pink_noise(size_hw: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Draw noise whose amplitude is inverse to the frequency, as in photos (Field 1987): uint8 (height, width, 3)."""
    rows, columns = (np.fft.fftfreq(side) for side in size_hw)
    frequency = np.hypot(rows[:, None], columns)
    frequency[0, 0] = np.inf
    waves = np.fft.ifft2(np.fft.fft2(random.normal(size=(3, *size_hw))) / frequency).real
    gray = 120 + 50 * waves / max(waves.std(), 1e-9)
    return np.ascontiguousarray(gray.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
