"""Read any image file as upright RGB, whatever its mode, bit depth or orientation, or say why it can't be read."""

import ctypes
import io
import struct
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO, TypeVar

import numpy as np
import PIL
from PIL import Image
from PIL.ImageFile import ImageFile

from vitreous.errors import InputError
from vitreous.files import os_error_reason

PIXEL_LIMIT = 100_000_000
"""The largest image that is decoded, in pixels: 300 MB as RGB."""
SIDE_LIMIT = 65_535
"""The longest side that is decoded, that of the largest JPEG: a strip of one pixel would be resized to a wide one."""
REPAIR_LIMIT_BYTES = 1 << 28
"""The largest file whose side data are taken out if Pillow refuses it."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
LFS_POINTER = b"version https://git-lfs"
DECODE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)
"""What Pillow's decoders raise on truncated or corrupt files, found by fuzzing them."""
ORIENTATION = 0x0112
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by the orientation in its EXIF data."""
GRAY_LEVELS = {"L;2": 85, "L;4": 17}
"""The step between the gray levels of a PNG with fewer than 8 bits, once it is decoded to 8."""

Result = TypeVar("Result")


def open_image(path: Path | str) -> np.ndarray:
    """Read one image file: uint8 (height, width, 3), RGB, upright.

    Raises:
        InputError: there is no such file, or it is not a complete image of at most `PIXEL_LIMIT` pixels.
    """
    return _read_file(path, _to_rgb)


def open_mask(path: Path | str) -> np.ndarray:
    """Read a mask file as bool (height, width): true where a pixel's color, or its index in a palette, isn't 0.

    In a JPEG, whose compression turns 0 into other small values, it is true above 127.

    Raises:
        InputError: there is no such file, or it can't be read as an image.
    """
    return _read_file(path, _nonzero_pixels)


def read_mask_values(path: Path | str) -> list[int]:
    """Return the different values of a mask file's pixels, or of its first channel, ascending, at most ten of them.

    Raises:
        InputError: there is no such file, or it can't be read as an image.
    """
    channels = _read_file(path, lambda image: np.asarray(image).reshape(-1, len(image.getbands())))
    return np.unique(channels[:, 0])[:10].tolist()


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
    return _read(io.BytesIO(data), name, lambda image: f"{image.format} {image.mode}")


def read_size(data: bytes, name: str) -> tuple[int, int]:
    """Return the (height, width) in pixels of an encoded image, from its header, as it is stored.

    Raises:
        InputError: the bytes are not an image, or one of more than `PIXEL_LIMIT` pixels.
    """
    return _read(io.BytesIO(data), name, lambda image: (image.height, image.width))


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


def _read_file(path: Path | str, convert: Callable[[ImageFile], Result]) -> Result:
    try:
        mode = Path(path).stat().st_mode
        if not S_ISREG(mode) and not S_ISDIR(mode):
            raise InputError(f"{path} is a pipe or a device, not a file: save the image as a file first")
        with Path(path).open("rb") as stream:
            return _read(stream, str(path), convert)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give the path of one image in it") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from error


def _read(stream: BinaryIO, name: str, convert: Callable[[ImageFile], Result]) -> Result:
    """Decode a stream; if it is refused for its side data, decode it without them."""
    prefix = stream.read(32)
    if not prefix:
        raise InputError(f"{name} is empty (0 bytes): copy or download it again")
    if prefix.startswith(LFS_POINTER):
        raise InputError(f"{name} is a Git LFS pointer, not the image itself: run `git lfs pull` first")
    with _decode_errors_as_input_errors(name):
        try:
            return _decode(stream, name, convert)
        except InputError:
            raise
        except DECODE_ERRORS:
            stream.seek(0)
            data = stream.read(REPAIR_LIMIT_BYTES + 1)
            if len(data) > REPAIR_LIMIT_BYTES or (found := _decode_repaired(data, name, convert)) is None:
                raise
            return found


def _decode(stream: BinaryIO, name: str, convert: Callable[[ImageFile], Result]) -> Result:
    """Decode a stream. Its size is checked from the header, before any pixel is decompressed."""
    with _open(stream, name) as image:
        _check_size(image, name)
        return convert(image)


def _decode_repaired(data: bytes, name: str, convert: Callable[[ImageFile], Result]) -> Result | None:
    """Decode a file without its side data, or without its missing end; None if pixels are missing."""
    from vitreous.imaging.side_data import with_jpeg_end, without_side_data  # few files need it

    for file in without_side_data(data):
        with suppress(*DECODE_ERRORS):
            return _decode(io.BytesIO(file), name, convert)
        with suppress(*DECODE_ERRORS):
            first, *others = [_decode(io.BytesIO(one), name, np.asarray) for one in with_jpeg_end(file)]
            if all(np.array_equal(first, other) for other in others):
                return _decode(io.BytesIO(with_jpeg_end(file)[0]), name, convert)
    return None


@contextmanager
def _decode_errors_as_input_errors(name: str) -> Generator[None, None, None]:
    """Turn whatever Pillow raises on a corrupt file into one line that says what to do."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "far too many pixels") from error
    except MemoryError as error:
        raise InputError(f"{name} needs more memory than there is: make it smaller first") from error
    except DECODE_ERRORS as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} is truncated or damaged: copy or download it again ({detail})") from error


def _open(stream: BinaryIO, name: str) -> ImageFile:
    """Open the image in a stream and read its header only.

    `Image.open` is not used. Between its own limit and twice that limit it prints a warning, which only a
    process-wide filter could silence; and it would pass a PostScript file to Ghostscript.
    """
    Image.init()
    stream.seek(0)
    prefix = stream.read(32)
    for image_format in FORMATS:
        factory, accept = Image.OPEN.get(image_format, (None, None))
        if factory and accept and accept(prefix) is True:
            stream.seek(0)
            if image_format == "TIFF":
                return _open_tiff(stream, factory, name)
            image = factory(stream, "")
            if image_format == "PNG":
                _scale_transparent_color(image)
            return image
    raise InputError(f"{name} is not an image that can be read: give a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF file")


def _open_tiff(stream: BinaryIO, factory: Callable[..., ImageFile], name: str) -> ImageFile:
    """Open a TIFF, and say of which samples it is if Pillow has no mode for them."""
    from PIL.TiffImagePlugin import BITSPERSAMPLE, ImageFileDirectory_v2

    _silence_libtiff()
    try:
        return factory(stream, "")
    except SyntaxError as error:
        if "unknown pixel mode" not in str(error):
            raise
        stream.seek(0)
        directory = ImageFileDirectory_v2(stream.read(8))
        stream.seek(directory.next)
        directory.load(stream)
        bits = " + ".join(map(str, np.ravel(directory.get(BITSPERSAMPLE, 1))))
        raise InputError(
            f"{name} is a TIFF whose pixels have {bits} bits in a form that can't be read: save it with 8 bits a sample"
        ) from error


@cache
def _silence_libtiff() -> None:
    """Keep libtiff, if it came with Pillow, from printing errors; Pillow raises them too."""
    for path in (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*"):
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                setter = getattr(library, name)
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)


def _scale_transparent_color(image: ImageFile) -> None:
    """Bring the transparent color of a PNG to the 8 bits that Pillow decodes 2, 4 and 48 bits a pixel to."""
    color, raw_mode = image.info.get("transparency"), str(image.tile[0].args) if image.tile else ""
    if isinstance(color, int) and raw_mode in GRAY_LEVELS:
        image.info["transparency"] = color * GRAY_LEVELS[raw_mode]
    elif isinstance(color, tuple) and raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)


def _too_large(name: str, size: str) -> InputError:
    return InputError(
        f"{name} has {size}, the limit is {PIXEL_LIMIT // 1_000_000} million and {SIDE_LIMIT:,} a side: "
        "make it smaller first"
    )


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > PIXEL_LIMIT or max(image.size) > SIDE_LIMIT:
        raise _too_large(name, f"{image.width:,} x {image.height:,} pixels")
    if image.width == 0 or image.height == 0:
        raise InputError(f"{name} has {image.width} x {image.height} pixels: give one that is not empty")


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Convert the first frame to uint8 (h, w, 3): upright by its EXIF orientation, transparent parts on white."""
    image.load()
    transpose = TRANSPOSES.get(_orientation(image))
    if image.mode.startswith("I") or image.mode == "F":
        from vitreous.imaging.deep_pixels import deep_to_u8  # few images need it

        image = Image.fromarray(deep_to_u8(image))
    if transpose is not None:
        image = image.transpose(transpose)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> object:
    """Return the orientation in an image's EXIF data; None if they have none or are damaged."""
    try:
        return image.getexif().get(ORIENTATION)
    except DECODE_ERRORS:
        return None


def _nonzero_pixels(image: Image.Image) -> np.ndarray:
    """Return bool (h, w): true where a value, a palette index or a color (alpha aside) isn't 0, of a JPEG above 127."""
    values = np.asarray(image)
    colors = len(image.getbands()) - ("A" in image.getbands())
    on_object = values > 127 if image.format == "JPEG" else values != 0
    return on_object if values.ndim == 2 else np.any(on_object[..., :colors], axis=-1)
