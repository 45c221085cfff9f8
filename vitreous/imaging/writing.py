"""Show what a model looks at on images."""

from pathlib import Path

from PIL import Image

from vitreous.errors import InputError
from vitreous.files import written_beside

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write an image, whole or not at all, in the format that its name ends in.

    Raises:
        InputError: the ending is no image format, or the file can't be written.
    """
    if Path(path).suffix.lower() not in IMAGE_FORMATS:
        raise InputError(f"can't write an image as '{path}': let its name end in {', '.join(IMAGE_FORMATS)}")
    with written_beside(path) as temporary:
        image.save(temporary)
