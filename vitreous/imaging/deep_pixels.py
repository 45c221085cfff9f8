"""Turn one-channel images of more than 8 bits, as cameras, microscopes and X-ray machines write them, into 8 bits.

The full scale is what the file declares: 2ⁿ − 1 for n bits a sample (TIFF's BitsPerSample), 65,535 for the 16 bits of
PNG, PGM and JPEG 2000. So images of one series keep their brightness relative to each other, as with OpenCV,
torchvision and scikit-image. Samples of 32 bits declare no full scale: it is the smallest usual one that holds all
values.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

FLOAT_SCALES = (1.0, 255.0, 65535.0)
WHOLE_SCALES = (255.0, 65535.0)
"""The usual full scales of samples whose format declares none, by the kind of their numbers."""
SIXTEEN_BIT_FORMATS = ("PNG", "PPM", "JPEG2000")
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF 6.0, sections 8 and 19."""
WHITE_IS_ZERO, SIGNED = 0, 2
BLOCK_PIXELS = 1 << 20
"""Pixels that are scaled at a time, which bounds the memory."""


def deep_to_u8(image: Image.Image) -> np.ndarray:
    """Return a one-channel image of mode I, I;16 or F as uint8 (height, width), scaled by its full scale.

    Transparent pixels are white.
    """
    values = np.asarray(image)
    gray = scale_to_u8(values, full_scales(image))
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16") and tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        np.subtract(255, gray, out=gray)  # Pillow inverts 8 bits only
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[values == transparent] = 255
    return gray


def full_scales(image: Image.Image) -> Sequence[float]:
    """Return the value that means white: the declared one, or the candidates in ascending order."""
    if image.mode == "F":
        return FLOAT_SCALES
    tags = getattr(image, "tag_v2", {})
    bits, sample_format = (np.ravel(tags.get(tag, 0))[0] for tag in (BITS_PER_SAMPLE, SAMPLE_FORMAT))
    if 8 < bits <= 16:
        return (2.0 ** (int(bits) - (sample_format == SIGNED)) - 1,)
    if image.mode.startswith("I;16") or image.format in SIXTEEN_BIT_FORMATS:
        return (65535.0,)
    return WHOLE_SCALES


def scale_to_u8(values: np.ndarray, scales: Sequence[float]) -> np.ndarray:
    """Scale one-channel values to uint8, without clipping.

    Args:
        values: (height, width), numbers of any type.
        scales: full scales, ascending; the first that holds all values is taken. Values that none holds, for example
            negative ones, are scaled from their minimum to their maximum. What isn't finite counts as 0.
    """
    rows = max(1, BLOCK_PIXELS // values.shape[1])
    blocks = [slice(start, start + rows) for start in range(0, len(values), rows)]
    ends = [(block.min(), block.max()) for block in (_finite(values[one]) for one in blocks)]
    low, high = float(min(one for one, _ in ends)), float(max(one for _, one in ends))
    full = next((scale for scale in scales if low >= 0 and high <= scale), None)
    low, full = (0.0, full) if full else (low, (high - low) or 1.0)
    scaled = np.empty(values.shape, np.uint8)
    for one in blocks:
        scaled[one] = np.rint((_finite(values[one]) - low) * (255.0 / full))
    return scaled


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
