"""Darken an image where a map is low, without adding colors."""

from functools import lru_cache

import numpy as np

from vitreous.render.overlay import apply_lut, per_level, row_bands

DARKEST = 0.2
LIT_FROM = 0.62
"""Level from which the image keeps all of its light."""


def spotlight(image_u8: np.ndarray, levels: np.ndarray, opacity: float = 1.0, *, signed: bool = False) -> np.ndarray:
    """Darken an image, uint8 (height, width, 3), by a map's levels as `overlay_levels` takes them.

    Positive and negative values of a signed map are treated alike.
    """
    lut = per_level(light_table(float(opacity), signed=signed), image_u8, levels)
    drawn = np.empty(image_u8.shape, np.uint8)
    for image, level, target in row_bands(image_u8, levels, drawn):
        light = apply_lut(lut, level, image.shape[2])
        for channel in range(3):
            values = image[..., channel].astype(np.uint16)
            values *= light
            values += 128
            values >>= 8
            target[..., channel] = values
    return drawn


@lru_cache(maxsize=16)
def light_table(opacity: float, *, signed: bool = False) -> np.ndarray:
    """Return the fraction of light that a pixel keeps at each of the 256 levels, in 256ths: uint16 (256,)."""
    heatmap = np.abs(np.linspace(-1, 1, 256)) if signed else np.linspace(0, 1, 256)
    ramp = np.clip(heatmap / LIT_FROM, 0, 1)
    light = DARKEST + (1 - DARKEST) * ramp * ramp * (3 - 2 * ramp)
    return np.floor((1 - opacity * (1 - light)) * 256 + 1e-9).astype(np.uint16)
