"""Show how an image is cut into patches."""

from pathlib import Path

from PIL import Image

from vitreous.errors import InputError
from vitreous.imaging.reading import as_image_u8
from vitreous.model.classifier import ImageClassifier, ImageInput
from vitreous.model.config import grid_for
from vitreous.pretrained.load import load
from vitreous.render.sheet import draw_patches


def patches_image(
    image: ImageInput,
    model: str | Path | ImageClassifier | None = None,
    *,
    patch_size: int = 16,
    size_hw: tuple[int, int] = (224, 224),
) -> Image.Image:
    """A drawing of the image and of its patches: as a model cuts it, or by patch and image size in pixels.

    Raises:
        InputError: an image or model that can't be read, or a patch that doesn't divide the size.
    """
    pixels = as_image_u8(image)
    if model is None:
        if patch_size < 1:
            raise InputError(f"patch size {patch_size} is none: give pixels, 1 or more")
        rows, columns = grid_for(size_hw, patch_size)
        seen = pixels
    else:
        classifier = load(model)
        inputs, geometry = classifier.preprocess(pixels)
        rows, columns = grid_for((inputs.shape[1], inputs.shape[2]), classifier.preprocessing.patch_size)
        top, left, bottom, right = (round(side) for side in geometry.visible_box)
        seen = pixels[top:bottom, left:right]
        rows = round(rows * (bottom - top) / (geometry.box[2] - geometry.box[0]))
        columns = round(columns * (right - left) / (geometry.box[3] - geometry.box[1]))
    cell = (seen.shape[0] / rows, seen.shape[1] / columns)
    return draw_patches(seen, cell, (rows, columns))


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from a text such as "224x320".

    >>> parse_size("224x320")
    (224, 320)

    Raises:
        InputError: the text has another form.
    """
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise InputError(f"'{text}' is no size: write height x width in pixels, such as 224x320")
    return int(sides[0]), int(sides[1])
