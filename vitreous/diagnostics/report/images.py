"""Images inside the page: small, as WebP or PNG in a data URI."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.diagnostics.report.content import EncodedImage
from vitreous.errors import InputError
from vitreous.explanation.result import Explanation
from vitreous.imaging.reading import open_image
from vitreous.render.image import resize_to_fit
from vitreous.render.overlay import colorize, overlay

THUMBNAIL_SIDE = 176
MAX_WIDE, MAX_WIDE_BYTES = (6000, 1800), 900_000
"""Height and width in pixels, and the size of the file, of an image as wide as the page."""
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


def encode_file(path: Path, description: str) -> EncodedImage | None:
    """Encode an image file of a run, as it is if it is small; None if it can't be read."""
    try:
        image = Image.fromarray(open_image(path))
    except InputError:
        return None
    height, width = image.height, image.width
    if path.stat().st_size <= MAX_WIDE_BYTES and path.suffix.lower() == ".png" and width <= MAX_WIDE[1]:
        return EncodedImage(_as_uri(path.read_bytes(), "png"), "", description, is_wide=True)
    factor = min(1.0, MAX_WIDE[0] / height, MAX_WIDE[1] / width)
    smaller = image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.LANCZOS)
    return EncodedImage(_data_uri(smaller), "", description, is_wide=True)


def _resize(plane: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    plane = np.ascontiguousarray(plane, dtype=np.float32)
    return np.asarray(Image.fromarray(plane).resize(size_wh, Image.Resampling.BILINEAR))


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=4)
    return _as_uri(stream.getvalue(), "webp")


def _as_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
