"""Any image file to upright RGB: whatever its mode, depth, orientation or damage."""

import io
import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from vitreous.errors import InputError
from vitreous.files import reason

PIXEL_LIMIT = 100_000_000  # the largest image decoded, in pixels: 300 MB as RGB
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
LFS_POINTER = b"version https://git-lfs"
# What Pillow's plugins raise on files cut short or scribbled over; found by fuzzing them.
DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)


def open_image(path: Path | str) -> np.ndarray:
    """Read one image file: uint8 (height, width, 3), RGB, upright.

    Raises:
        InputError: there is no such file, or it is not a whole image of at most `PIXEL_LIMIT` pixels.
    """
    try:
        with Path(path).open("rb") as stream:
            return _read(stream, str(path))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give the path of one image in it") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {reason(error)}") from error


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode the bytes of one image file: uint8 (height, width, 3), RGB, upright; `name` is for the error.

    Raises:
        InputError: the bytes are not a whole image of at most `PIXEL_LIMIT` pixels.
    """
    return _read(io.BytesIO(data), name)


def kind_of(data: bytes, name: str) -> str:
    """The format and mode of an encoded image, from its header: "JPEG RGB", "PNG P".

    Raises:
        InputError: the bytes are no image.
    """
    with _named_damage(name), _opened(io.BytesIO(data), data[:32], name) as image:
        return f"{image.format} {image.mode}"


def as_image_u8(image: Path | str | Image.Image | np.ndarray) -> np.ndarray:
    """Take a path, a PIL image or a uint8 array of (h, w, 3), (h, w, 1) or (h, w); give uint8 (h, w, 3).

    Raises:
        InputError: it is something else, has no pixels, or its file can't be read.
    """
    if isinstance(image, Path | str):
        return open_image(image)
    if isinstance(image, Image.Image):
        with _named_damage("the image"):
            return _upright_rgb(image, "the image")
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image can't be a {type(image).__name__}: give a path, a PIL image or a uint8 array")
    shape = image.shape
    channels = shape[2] if len(shape) == 3 else 1
    if image.dtype != np.uint8 or image.size == 0 or len(shape) not in (2, 3) or channels not in (1, 3):
        raise InputError(f"an image can't be a {image.dtype} array of shape {shape}: give uint8 (height, width, 3)")
    return np.array(np.broadcast_to(image.reshape(*shape[:2], channels), (*shape[:2], 3)))


def _read(stream: BinaryIO, name: str) -> np.ndarray:
    """Decode a stream; its size is checked from the header, before any pixel is decompressed."""
    prefix = stream.read(32)
    if not prefix:
        raise InputError(f"{name} is empty (0 bytes): copy or download it again")
    if prefix.startswith(LFS_POINTER):
        raise InputError(f"{name} is a Git LFS pointer, not the image itself: run `git lfs pull` first")
    with _named_damage(name), _opened(stream, prefix, name) as image:
        return _upright_rgb(image, name)


@contextmanager
def _named_damage(name: str) -> Generator[None, None, None]:
    """Turn whatever Pillow raises on a broken file into the one line a user can act on."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "far too many pixels") from error
    except DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} is damaged or cut short: copy or download it again ({detail})") from error


def _opened(stream: BinaryIO, prefix: bytes, name: str) -> ImageFile:
    """The image behind the stream, header read only.

    `Image.open` is not used, because between its own limit and twice that it prints a warning which only a
    process-wide filter could silence, and because it would hand a PostScript file to Ghostscript.
    """
    Image.init()
    for kind in FORMATS:
        factory, accept = Image.OPEN.get(kind, (None, None))
        if factory and accept and accept(prefix) is True:
            stream.seek(0)
            return factory(stream, "")
    raise InputError(f"{name} is not an image that can be read: give a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file")


def _too_large(name: str, size: str) -> InputError:
    return InputError(f"{name} has {size}, the limit is {PIXEL_LIMIT // 1_000_000} million: make it smaller first")


def _upright_rgb(image: Image.Image, name: str) -> np.ndarray:
    """The first frame, turned as its EXIF orientation says, on white where it is transparent: uint8 (h, w, 3)."""
    if image.width * image.height > PIXEL_LIMIT:
        raise _too_large(name, f"{image.width:,} x {image.height:,} pixels")
    if image.width == 0 or image.height == 0:
        raise InputError(f"{name} has {image.width} x {image.height} pixels: give one that is not empty")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_to_8_bits(np.asarray(image))[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Deep one-channel values to uint8 by scale, never by clipping.

    Their full scale is the smallest usual one that holds them: 16 bits for whole numbers, 1 or 255 for fractions.
    Values that no usual scale holds (negative ones, 32-bit ones) are stretched from their least to their greatest.
    """
    usual = (65535.0,) if np.issubdtype(values.dtype, np.integer) else (1.0, 255.0, 65535.0)
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    full = next((scale for scale in usual if low >= 0 and high <= scale), None)
    low, full = (0.0, full) if full else (low, (high - low) or 1.0)
    return np.rint((values - low) * (255.0 / full)).astype(np.uint8)
