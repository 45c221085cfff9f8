"""Draw a heatmap over an image: low areas are dimmed and desaturated, high areas glow.

Signed maps glow warm where positive and cool where negative.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from vitreous.errors import InputError
from vitreous.render.color import Scale, check_map, color_table, to_levels
from vitreous.render.image import check_image

DIMMING, GRAYING, GLOW, TINT = 0.64, 0.8, 0.58, 0.6
POSITIVE_COLOR, NEGATIVE_COLOR = (255, 138, 40), (40, 150, 255)
MIN_SHADE = 0.45
"""Fraction of a map's own colors that remains where the image is black."""
GLOW_COLOR_MAX = 0.76
"""Upper end of the part of inferno that is used: paler colors would wash out the image."""
MIN_BRIGHTNESS, MIN_DIMMING = 0.2, 0.3
"""Mean brightness that a dimmed image keeps, unless that needs less dimming than the second number."""
MAX_SAMPLED_PIXELS = 4096
PIXELS_PER_BAND = 65_536


def overlay(
    image_u8: np.ndarray,
    heatmap: np.ndarray,
    scale: Scale | None = None,
    opacity: float = 1.0,
    *,
    signed: bool = False,
) -> np.ndarray:
    """Draw a heatmap, float (height, width), over an image, uint8 (height, width, 3): a new uint8 image.

    Areas where the map is low are dimmed, less so in a dark image, and partly desaturated. Areas where it is high keep
    their colors under a glow of the inferno colormap, whose opacity grows with the map.

    Args:
        image_u8: the image.
        heatmap: the map, of the image's size.
        scale: the values drawn as 0 and 1; by default the map's own robust scale.
        opacity: 0 returns the image unchanged, 1 gives the full effect.
        signed: let positive values glow orange and negative ones blue, on a symmetric scale.

    Raises:
        InputError: image and map differ in size, are of the wrong type or not finite, or opacity is outside [0, 1].

    >>> image = np.full((2, 2, 3), 200, np.uint8)
    >>> overlay(image, np.array([[0.0, 1.0], [0.0, 1.0]])).shape
    (2, 2, 3)
    """
    check_image(image_u8)
    heatmap = check_map(heatmap)
    if heatmap.shape != image_u8.shape[:2]:
        raise InputError(
            f"a map of {heatmap.shape[0]}x{heatmap.shape[1]} does not fit an image of "
            f"{image_u8.shape[0]}x{image_u8.shape[1]} (height x width): resize the map to the image first"
        )
    levels = to_levels((scale or Scale.for_map(heatmap, signed=signed)).apply(heatmap))
    return overlay_levels(image_u8, levels, opacity, dimming_for(mean_brightness(image_u8)), signed=signed)


def mean_brightness(image_u8: np.ndarray) -> float:
    """Return the mean of an image's values, 0 to 1, from some of its pixels."""
    step = max(1, math.isqrt(image_u8.shape[0] * image_u8.shape[1] // MAX_SAMPLED_PIXELS))
    return float(image_u8[::step, ::step].mean()) / 255


def dimming_for(brightness: float) -> float:
    """Return the fraction of light that an image of this brightness loses where the map is low; dark ones lose less.

    The value is rounded to hundredths, which is invisible and keeps the number of lookup tables small.
    """
    return round(min(DIMMING, max(MIN_DIMMING, 1 - MIN_BRIGHTNESS / max(brightness, 1e-6))), 2)


def overlay_levels(
    image_u8: np.ndarray,
    levels: np.ndarray,
    opacity: float = 1.0,
    dimming: float = DIMMING,
    *,
    signed: bool = False,
) -> np.ndarray:
    """Draw the overlay from levels, uint8 (height, width), or one level per 2 x 2 pixels (sides rounded up)."""
    lut = per_level(blend_table(float(opacity), dimming, signed=signed), image_u8, levels)
    drawn = np.empty(image_u8.shape, np.uint8)
    for image, level, target in row_bands(image_u8, levels, drawn):
        blend(image, level, lut, target)
    return drawn


def per_level(lut: np.ndarray, image_u8: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the table, uint16, or for levels of 2 x 2 pixels one of pairs, uint32: one look-up serves two columns."""
    height, width = image_u8.shape[:2]
    if levels.shape == (height, width):
        return lut
    assert levels.shape == (-(-height // 2), -(-width // 2)), (levels.shape, image_u8.shape)
    return lut * np.uint32(0x10001)


def apply_lut(row: np.ndarray, levels: np.ndarray, width: int) -> np.ndarray:
    """Look up each column of pixels in one row of a table from `per_level`: uint16."""
    return np.take(row, levels).view(np.uint16)[..., :width]


def row_bands(image: np.ndarray, levels: np.ndarray, drawn: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield image, levels and result in bands that fit the CPU's cache.

    Images are views (rows, step, width, 3), levels (rows, 1, ...): one row of levels serves `step` rows of pixels, 1 or
    2; the last row may serve fewer.
    """
    height, width = image.shape[:2]
    step = 1 if levels.shape[0] == height else 2
    blocks, rows = height // step, max(1, PIXELS_PER_BAND // (step * width))
    for first in [*range(0, blocks, rows), *([blocks] if height % step else [])]:
        last = min(first + rows, blocks) if first < blocks else levels.shape[0]
        pixels = slice(first * step, min(last * step, height))
        shape = (last - first, -1, width, 3)
        yield image[pixels].reshape(shape), levels[first:last, None], drawn[pixels].reshape(shape)


def colorize(image_u8: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Draw a map's own colors, float (height, width, 3) in [0, 1], over an image, uint8 of the same shape.

    The image's brightness shades the colors.

    Raises:
        InputError: image and colors differ in shape.
    """
    check_image(image_u8)
    if colors.shape != image_u8.shape:
        raise InputError(f"colors of shape {colors.shape} do not fit an image of shape {image_u8.shape}: resize them")
    gray = image_u8 @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    shade = MIN_SHADE + (1 - MIN_SHADE) * gray[..., None]
    return np.rint(np.clip(colors, 0, 1) * shade * 255).astype(np.uint8)


@lru_cache(maxsize=64)
def blend_table(opacity: float, dimming: float = DIMMING, *, signed: bool = False) -> np.ndarray:
    """Return what each of the 256 levels does to a pixel, in 256ths: uint16 (3, 3, 256), channel first.

    The three numbers of a channel are the fraction of the pixel's own value, the fraction of its gray value, and what
    is added. The glow is a screen blend, 1 - (1 - a)(1 - b), so the sum never exceeds 16 bits. Because a glow is
    invisible on white, the channels that it lacks are lowered a little (tint).
    """
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity {opacity} is outside [0, 1]: give 0 for none, 1 for the full effect")
    heatmap = np.abs(np.linspace(-1, 1, 256)) if signed else np.linspace(0, 1, 256)
    low_heat = opacity * (1 - heatmap * heatmap * (3 - 2 * heatmap))
    glow_colors = (
        signed_colors() if signed else color_table()[np.rint(heatmap * GLOW_COLOR_MAX * 255).astype(int)].T / 255
    )
    glow_opacity = opacity * GLOW * heatmap**1.5
    glow, tint = glow_opacity * glow_colors, 1 - TINT * glow_opacity * (1 - glow_colors)
    light = (1 - glow) * tint * (1 - dimming * low_heat)
    own = light * (1 - GRAYING * low_heat)
    lut = np.stack([own, light - own, glow * 255], axis=1)
    return np.floor(lut * 256 + 1e-9).astype(np.uint16)


def signed_colors() -> np.ndarray:
    """Return the glow's color at each of 256 levels from negative to positive: float (3, 256) in [0, 1]."""
    sides = [np.repeat(np.array(color)[:, None], 128, axis=1) for color in (NEGATIVE_COLOR, POSITIVE_COLOR)]
    return np.concatenate(sides, axis=1) / 255


def blend(image: np.ndarray, levels: np.ndarray, lut: np.ndarray, drawn: np.ndarray) -> None:
    """Write one band of the overlay into `drawn`, in 16-bit fixed point."""
    channels = [image[..., channel].astype(np.uint16) for channel in range(3)]
    gray, work = channels[0] * 77, channels[1] * 150
    gray += work
    gray += np.multiply(channels[2], 29, out=work)
    gray >>= 8
    for channel, values in enumerate(channels):
        own_fraction, gray_fraction, added = (apply_lut(row, levels, image.shape[2]) for row in lut[channel])
        added += 128
        values *= own_fraction
        values += np.multiply(gray, gray_fraction, out=work)
        values += added
        values >>= 8
        drawn[..., channel] = values
