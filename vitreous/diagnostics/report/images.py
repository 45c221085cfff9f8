"""Images inside the page: small, as WebP in a data URI."""

import base64
import io

import numpy as np
from PIL import Image

from vitreous.diagnostics.report.content import EncodedImage
from vitreous.explanation.result import Explanation
from vitreous.render.image import resize_to_fit
from vitreous.render.overlay import colorize, overlay

THUMBNAIL_SIDE = 176
MAX_WIDE = (6000, 1800)
"""Height and width in pixels of an image as wide as the page."""
QUALITY = 84


def encode_thumbnail(image_u8: np.ndarray, caption: str, description: str) -> EncodedImage:
    """Encode an image, uint8 (height, width, 3), at a size that is comfortable to look at."""
    return EncodedImage(_data_uri(resize_to_fit(image_u8, (THUMBNAIL_SIDE, THUMBNAIL_SIDE))), caption, description)


def encode_map(explanation: Explanation, caption: str) -> EncodedImage:
    """Encode a map drawn over its image, at the size of the thumbnail."""
    image = np.asarray(resize_to_fit(explanation.image_u8, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)))
    size_wh = image.shape[1], image.shape[0]
    if explanation.colors is not None:
        planes = explanation.colors.transpose(2, 0, 1)
        drawn = colorize(image, np.stack([_resize(plane, size_wh) for plane in planes], -1))
    else:
        drawn = overlay(image, _resize(explanation.heatmap, size_wh), signed=explanation.scale_kind == "signed")
    return EncodedImage(_data_uri(Image.fromarray(drawn)), caption, f"map: {explanation.caption()}, {caption}")


def encode_wide(image: Image.Image, description: str) -> EncodedImage:
    """Encode a figure as wide as the page."""
    factor = min(1.0, MAX_WIDE[0] / image.height, MAX_WIDE[1] / image.width)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return EncodedImage(_data_uri(image.resize(size, Image.Resampling.LANCZOS)), "", description)


def _resize(plane: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    plane = np.ascontiguousarray(plane, dtype=np.float32)
    return np.asarray(Image.fromarray(plane).resize(size_wh, Image.Resampling.BILINEAR))


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
