"""An image in which what is not looked at lies in the dark, without any color of its own."""

from functools import lru_cache

import numpy as np

from vitreous.render.overlay import apply_lut, per_level, row_bands

DARKEST = 0.2
LIT_FROM = 0.62
"""The level from which on the image keeps all of its light."""


def spotlight(image_u8: np.ndarray, levels: np.ndarray, strength: float = 1.0, *, signed: bool = False) -> np.ndarray:
    """The image, uint8 (height, width, 3), lit by a map's levels as `overlay_levels` takes them.

    Of a signed map, what speaks for and what speaks against is lit alike.
    """
    table = per_level(light_table(float(strength), signed=signed), image_u8, levels)
    drawn = np.empty(image_u8.shape, np.uint8)
    for image, level, target in row_bands(image_u8, levels, drawn):
        light = apply_lut(table, level, image.shape[2])
        for channel in range(3):
            lit = image[..., channel].astype(np.uint16)
            lit *= light
            lit += 128
            lit >>= 8
            target[..., channel] = lit
    return drawn


@lru_cache(maxsize=16)
def light_table(strength: float, *, signed: bool = False) -> np.ndarray:
    """The share of its light that a pixel keeps at each of the 256 levels, in 256ths: uint16 (256,)."""
    heat = np.abs(np.linspace(-1, 1, 256)) if signed else np.linspace(0, 1, 256)
    rise = np.clip(heat / LIT_FROM, 0, 1)
    light = DARKEST + (1 - DARKEST) * rise * rise * (3 - 2 * rise)
    return np.floor((1 - strength * (1 - light)) * 256 + 1e-9).astype(np.uint16)
