"""An image and where it was looked at, in one: the rest grows dim and gray, the looked-at glows.

What speaks for something glows warm, what speaks against it glows cool.
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
MIN_SHADE = 0.45  # the light that a map's own colors keep where the image is black
GLOW_COLOR_MAX = 0.76  # beyond it inferno is so pale that it would wash the image out
MIN_BRIGHTNESS, MIN_DIMMING = 0.2, 0.3
"""The mean brightness that dimming leaves an image at least, as far as it may be so mild."""
MAX_SAMPLED_PIXELS = 4096
PIXELS_PER_BAND = 65_536


def overlay(
    image_u8: np.ndarray,
    heat: np.ndarray,
    scale: Scale | None = None,
    strength: float = 1.0,
    *,
    signed: bool = False,
) -> np.ndarray:
    """Draw `heat`, float (height, width), over `image_u8`, uint8 (height, width, 3): a new uint8 image.

    What is not looked at is dimmed, less so in a dark image, and partly desaturated; what is looked at keeps its own
    colors under a glow of the inferno colormap whose opacity grows with the heat. A `signed` map glows orange above 0
    and blue below it. Without a `scale` the map's own robust one is taken, from −m to m for a signed one. A `strength`
    of 0 returns the image as it was, 1 the full effect.

    Raises:
        InputError: image and map differ in size, are of the wrong kind or not finite, or strength is outside [0, 1].
    """
    check_image(image_u8)
    heat = check_map(heat)
    if heat.shape != image_u8.shape[:2]:
        raise InputError(
            f"a map of {heat.shape[0]}x{heat.shape[1]} does not fit an image of "
            f"{image_u8.shape[0]}x{image_u8.shape[1]} (height x width): resize the map to the image first"
        )
    levels = to_levels((scale or Scale.for_map(heat, signed=signed)).apply(heat))
    return overlay_levels(image_u8, levels, strength, dimming_for(brightness(image_u8)), signed=signed)


def brightness(image_u8: np.ndarray) -> float:
    """The mean of an image's values, 0 to 1, from some of its pixels."""
    step = max(1, math.isqrt(image_u8.shape[0] * image_u8.shape[1] // MAX_SAMPLED_PIXELS))
    return float(image_u8[::step, ::step].mean()) / 255


def dimming_for(bright: float) -> float:
    """What of its light an image of this brightness loses where it is not looked at, so that a dark one stays seen.

    In steps of a hundredth, which can't be seen, so that few tables are made.
    """
    return round(min(DIMMING, max(MIN_DIMMING, 1 - MIN_BRIGHTNESS / max(bright, 1e-6))), 2)


def overlay_levels(
    image_u8: np.ndarray,
    levels: np.ndarray,
    strength: float = 1.0,
    dimming: float = DIMMING,
    *,
    signed: bool = False,
) -> np.ndarray:
    """The overlay from a map's 256 levels, uint8 (height, width), or one for each 2 x 2 pixels (halves rounded up)."""
    table = per_level(blend_table(float(strength), dimming, signed=signed), image_u8, levels)
    drawn = np.empty(image_u8.shape, np.uint8)
    for image, level, target in row_bands(image_u8, levels, drawn):
        blend(image, level, table, target)
    return drawn


def per_level(table: np.ndarray, image_u8: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The table, uint16, or for levels of 2 x 2 pixels one of pairs, uint32: then one look-up serves two columns."""
    height, width = image_u8.shape[:2]
    if levels.shape == (height, width):
        return table
    assert levels.shape == (-(-height // 2), -(-width // 2)), (levels.shape, image_u8.shape)
    return table * np.uint32(0x10001)


def apply_lut(row: np.ndarray, levels: np.ndarray, width: int) -> np.ndarray:
    """What a table from `for_levels` says of these levels, for each column of pixels: uint16."""
    return np.take(row, levels).view(np.uint16)[..., :width]


def row_bands(image: np.ndarray, levels: np.ndarray, drawn: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Image, levels and target in pieces that fit the processor's cache.

    Images are (rows, step, width, 3) views, levels (rows, 1, ...): a row of them serves `step` rows of pixels, 1 or
    2, the last one those that are left.
    """
    height, width = image.shape[:2]
    step = 1 if levels.shape[0] == height else 2
    whole, rows = height // step, max(1, PIXELS_PER_BAND // (step * width))
    for first in [*range(0, whole, rows), *([whole] if height % step else [])]:
        last = min(first + rows, whole) if first < whole else levels.shape[0]
        pixels = slice(first * step, min(last * step, height))
        shape = (last - first, -1, width, 3)
        yield image[pixels].reshape(shape), levels[first:last, None], drawn[pixels].reshape(shape)


def colorize(image_u8: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Lay colors of a map's own, float (height, width, 3) in [0, 1], over `image_u8`, uint8 of the same shape.

    The image shows through as light and shade.

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
def blend_table(strength: float, dimming: float = DIMMING, *, signed: bool = False) -> np.ndarray:
    """What each of the 256 levels of heat does to a pixel, in 256ths: uint16 (3, 3, 256), channel first.

    For each channel: the share of the pixel's own value, the share of its gray value, and what is added. The glow is
    light upon light ("screen": 1 - (1 - a)(1 - b)), so shares and addition never exceed 16 bits together; as light
    can't be seen on white, the channels that the glow lacks are lowered a little (tint).
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength {strength} is outside [0, 1]: give 0 for none, 1 for the full effect")
    heat = np.abs(np.linspace(-1, 1, 256)) if signed else np.linspace(0, 1, 256)
    unseen = strength * (1 - heat * heat * (3 - 2 * heat))
    hues = signed_colors() if signed else color_table()[np.rint(heat * GLOW_COLOR_MAX * 255).astype(int)].T / 255
    opacity = strength * GLOW * heat**1.5
    glow, tint = opacity * hues, 1 - TINT * opacity * (1 - hues)
    light = (1 - glow) * tint * (1 - dimming * unseen)
    own = light * (1 - GRAYING * unseen)
    table = np.stack([own, light - own, glow * 255], axis=1)
    return np.floor(table * 256 + 1e-9).astype(np.uint16)


def signed_colors() -> np.ndarray:
    """The glow of each of 256 levels from wholly against to wholly for: float (3, 256) in [0, 1]."""
    sides = [np.repeat(np.array(color)[:, None], 128, axis=1) for color in (NEGATIVE_COLOR, POSITIVE_COLOR)]
    return np.concatenate(sides, axis=1) / 255


def blend(image: np.ndarray, levels: np.ndarray, table: np.ndarray, drawn: np.ndarray) -> None:
    """Write one band of the overlay into `drawn`, in 16-bit fixed point."""
    channels = [image[..., channel].astype(np.uint16) for channel in range(3)]
    gray, work = channels[0] * 77, channels[1] * 150
    gray += work
    gray += np.multiply(channels[2], 29, out=work)
    gray >>= 8
    for channel, values in enumerate(channels):
        own_share, gray_share, added = (apply_lut(row, levels, image.shape[2]) for row in table[channel])
        added += 128
        values *= own_share
        values += np.multiply(gray, gray_share, out=work)
        values += added
        values >>= 8
        drawn[..., channel] = values
