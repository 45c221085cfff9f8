"""Write images to files."""

from pathlib import Path

from PIL import Image

from vitreous.errors import InputError
from vitreous.files import atomic_write, check_writable

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def check_image_output(path: Path | str) -> None:
    """Check before long work that an image can be written to `path`.

    Raises:
        InputError: the extension is not an image format, or the file can't be written.
    """
    _check_extension(path)
    check_writable(path)


def _check_extension(path: Path | str) -> None:
    if Path(path).suffix.lower() not in IMAGE_FORMATS:
        raise InputError(f"can't write an image as '{path}': use one of the extensions {', '.join(IMAGE_FORMATS)}")


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write an image, completely or not at all, in the format of the path's extension.

    Raises:
        InputError: the extension is not an image format, or the file can't be written.
    """
    _check_extension(path)
    with atomic_write(path) as temporary:
        image.save(temporary)
