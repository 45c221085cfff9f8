"""Read any image file as upright RGB, whatever its mode, bit depth or orientation, or say why it can't be read."""

import io
import struct
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from vitreous.errors import InputError
from vitreous.files import os_error_reason

PIXEL_LIMIT = 100_000_000
"""The largest image that is decoded, in pixels: 300 MB as RGB."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
LFS_POINTER = b"version https://git-lfs"
DECODE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)
"""What Pillow's decoders raise on truncated or corrupt files, found by fuzzing them."""


def open_image(path: Path | str) -> np.ndarray:
    """Read one image file: uint8 (height, width, 3), RGB, upright.

    Raises:
        InputError: there is no such file, or it is not a complete image of at most `PIXEL_LIMIT` pixels.
    """
    return _read_file(path, _to_rgb)


def open_mask(path: Path | str) -> np.ndarray:
    """Read a mask file as bool (height, width): true where a pixel's color, or its index in a palette, isn't 0.

    Raises:
        InputError: there is no such file, or it can't be read as an image.
    """
    return _read_file(path, _nonzero_pixels)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of one image file: uint8 (height, width, 3), RGB, upright. Errors call it `name`.

    Raises:
        InputError: the bytes are not a complete image of at most `PIXEL_LIMIT` pixels.
    """
    return _read(io.BytesIO(data), name, _to_rgb)


def format_and_mode(data: bytes, name: str) -> str:
    """Return the format and the mode of an encoded image, from its header: "JPEG RGB", "PNG P".

    Raises:
        InputError: the bytes are not an image.
    """
    with _decode_errors_as_input_errors(name), _open(io.BytesIO(data), data[:32], name) as image:
        return f"{image.format} {image.mode}"


def as_image_u8(image: Path | str | Image.Image | np.ndarray) -> np.ndarray:
    """Return an image in any accepted form as uint8 (height, width, 3).

    An array that has this form already is returned as it is, without a copy.

    Args:
        image: a path, a PIL image, or a uint8 array of shape (h, w, 3), (h, w, 1) or (h, w).

    Raises:
        InputError: it is something else or has no pixels, or its file can't be read.

    >>> as_image_u8(np.zeros((4, 6), np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(image, Path | str):
        return open_image(image)
    if isinstance(image, Image.Image):
        with _decode_errors_as_input_errors("the image"):
            _check_size(image, "the image")
            return _to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"expected a path, a Pillow image or a uint8 array, got {type(image).__name__}")
    shape = image.shape
    channels = shape[2] if len(shape) == 3 else 1
    if image.dtype != np.uint8 or image.size == 0 or len(shape) not in (2, 3) or channels not in (1, 3):
        raise InputError(f"expected a uint8 array of shape (height, width, 3), got {image.dtype} of shape {shape}")
    if channels == 3:
        return image
    return np.repeat(image.reshape(*shape[:2], 1), 3, axis=2)


def _read_file(path: Path | str, to_array: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        with Path(path).open("rb") as stream:
            return _read(stream, str(path), to_array)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give the path of one image in it") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from error


def _read(stream: BinaryIO, name: str, to_array: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Decode a stream. Its size is checked from the header, before any pixel is decompressed."""
    prefix = stream.read(32)
    if not prefix:
        raise InputError(f"{name} is empty (0 bytes): copy or download it again")
    if prefix.startswith(LFS_POINTER):
        raise InputError(f"{name} is a Git LFS pointer, not the image itself: run `git lfs pull` first")
    with _decode_errors_as_input_errors(name), _open(stream, prefix, name) as image:
        _check_size(image, name)
        return to_array(image)


@contextmanager
def _decode_errors_as_input_errors(name: str) -> Generator[None, None, None]:
    """Turn whatever Pillow raises on a corrupt file into one line that says what to do."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "far too many pixels") from error
    except DECODE_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} is truncated or damaged: copy or download it again ({detail})") from error


def _open(stream: BinaryIO, prefix: bytes, name: str) -> ImageFile:
    """Open the image in a stream and read its header only.

    `Image.open` is not used. Between its own limit and twice that limit it prints a warning, which only a
    process-wide filter could silence; and it would pass a PostScript file to Ghostscript.
    """
    Image.init()
    for image_format in FORMATS:
        factory, accept = Image.OPEN.get(image_format, (None, None))
        if factory and accept and accept(prefix) is True:
            stream.seek(0)
            return factory(stream, "")
    raise InputError(f"{name} is not an image that can be read: give a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file")


def _too_large(name: str, size: str) -> InputError:
    return InputError(f"{name} has {size}, the limit is {PIXEL_LIMIT // 1_000_000} million: make it smaller first")


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > PIXEL_LIMIT:
        raise _too_large(name, f"{image.width:,} x {image.height:,} pixels")
    if image.width == 0 or image.height == 0:
        raise InputError(f"{name} has {image.width} x {image.height} pixels: give one that is not empty")


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Convert the first frame to uint8 (h, w, 3): upright by its EXIF orientation, transparent parts on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_scale_to_u8(np.asarray(image))[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _nonzero_pixels(image: Image.Image) -> np.ndarray:
    """Return bool (h, w): true where a value, a palette index or a color (alpha aside) isn't 0."""
    values = np.asarray(image)
    colors = len(image.getbands()) - ("A" in image.getbands())
    return values != 0 if values.ndim == 2 else (values[..., :colors] != 0).any(-1)


def _scale_to_u8(values: np.ndarray) -> np.ndarray:
    """Scale one-channel values of more than 8 bits to uint8, without clipping.

    The full scale is the smallest usual one that holds all values: 16 bits for integers; 1, 255 or 65535 for floats.
    Values that no usual scale holds (negative or 32-bit ones) are scaled from their minimum to their maximum.
    """
    usual = (65535.0,) if np.issubdtype(values.dtype, np.integer) else (1.0, 255.0, 65535.0)
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    full = next((scale for scale in usual if low >= 0 and high <= scale), None)
    low, full = (0.0, full) if full else (low, (high - low) or 1.0)
    return np.rint((values - low) * (255.0 / full)).astype(np.uint8)
