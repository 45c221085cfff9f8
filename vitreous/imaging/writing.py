"""Write images to files."""

from pathlib import Path

from PIL import Image

from vitreous.errors import InputError
from vitreous.files import atomic_write

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write an image, completely or not at all, in the format of the path's extension.

    Raises:
        InputError: the extension is not an image format, or the file can't be written.
    """
    if Path(path).suffix.lower() not in IMAGE_FORMATS:
        raise InputError(f"can't write an image as '{path}': use one of the extensions {', '.join(IMAGE_FORMATS)}")
    with atomic_write(path) as temporary:
        image.save(temporary)
