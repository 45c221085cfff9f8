"""Draw how an image is cut into patches."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vitreous.arguments import check_arguments
from vitreous.errors import InputError
from vitreous.imaging.geometry import grid_for, to_pair
from vitreous.imaging.reading import as_image_u8
from vitreous.render.patch_sheet import patches_sheet

if TYPE_CHECKING:
    from vitreous.model.classifier import ImageClassifier, ImageInput


@check_arguments
def patches(
    image: "ImageInput",
    model: "str | Path | ImageClassifier | None" = None,
    *,
    patch_size: int = 16,
    input_size: int | Sequence[int] = 224,
) -> Image.Image:
    """Draw an image and its patches side by side.

    Args:
        image: a path, a Pillow image or a uint8 array (height, width, 3).
        model: whatever `load` takes, or a loaded model: the patches are those of the model. Then the other arguments
            are ignored.
        patch_size: side of a patch in pixels of the input.
        input_size: the side, or (height, width), in pixels to which the image is resized first.

    Raises:
        InputError: the image or the model can't be read, or the patch size doesn't divide the input size.

    >>> import numpy as np
    >>> patches(np.zeros((48, 64, 3), np.uint8), patch_size=16, input_size=(48, 64)).mode
    'RGB'
    """
    pixels = as_image_u8(image)
    if model is None:
        if patch_size < 1:
            raise InputError(f"the patch size is {patch_size}: give 1 pixel or more")
        rows, columns = grid_for(to_pair(input_size), patch_size)
        visible = pixels
    else:
        from vitreous.pretrained.load import load  # a drawing without a model needn't import all that can load one

        classifier = load(model)
        inputs, geometry = classifier.preprocess(pixels)
        rows, columns = grid_for((inputs.shape[1], inputs.shape[2]), classifier.preprocessing.patch_size)
        top, left, bottom, right = (round(side) for side in geometry.visible_box)
        visible = pixels[top:bottom, left:right]
        rows = round(rows * (bottom - top) / (geometry.box[2] - geometry.box[0]))
        columns = round(columns * (right - left) / (geometry.box[3] - geometry.box[1]))
    cell = (visible.shape[0] / rows, visible.shape[1] / columns)
    return patches_sheet(visible, cell, (rows, columns))
