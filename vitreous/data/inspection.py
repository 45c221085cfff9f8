"""Inspect the images of a dataset one by one: size, format, content hash, and whether they can be read."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitreous.callbacks import Callback, Progress
from vitreous.data.decoding import THREADS, EncodedImages
from vitreous.data.image_set import ImageSet
from vitreous.errors import InputError
from vitreous.imaging.reading import decode_image, format_and_mode

PROGRESS_INTERVAL = 256
"""Images between two reports of progress."""
DARK_BELOW = 64
"""The gray level that an image of more than 8 bits doesn't reach if it uses less than a quarter of its full scale."""
DECODED_GRAY, DECODED_RGB = "decoded L", "decoded RGB"
"""The format of images that are published decoded."""


@dataclass(frozen=True)
class InspectedImage:
    """One image of a dataset.

    Attributes:
        name: its file, with the row in a Parquet file; or its number in its split.
        split: "train", "validation" or "test".
        label: the index of its class.
        size_hw: (height, width) in pixels, upright; None if it can't be read.
        format: format and mode: "JPEG RGB".
        is_dark: whether it has more than 8 bits and uses less than a quarter of its full scale.
        content_hash: a digest of its upright RGB pixels and their size, equal for equal images in any format.
        error: why it can't be read; None if it can.
    """

    name: str
    split: str
    label: int
    size_hw: tuple[int, int] | None = None
    format: str = ""
    is_dark: bool = False
    content_hash: bytes = b""
    error: str | None = None


def inspect_encoded(encoded: EncodedImages, split: str, callback: Callback | None = None) -> list[InspectedImage]:
    """Decode and inspect each image, on all cores.

    Args:
        encoded: the images.
        split: the split that they are of.
        callback: `on_progress` receives the number of images that are done, with the split as the message.
    """
    callback = callback or Callback()
    found: list[InspectedImage] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(encoded), PROGRESS_INTERVAL):
            indexes = range(len(encoded))[first : first + PROGRESS_INTERVAL]
            found += pool.map(lambda index: _inspect_one(encoded, index, split), indexes)
            callback.on_progress(Progress(len(found), len(encoded), split))
    return found


def inspect_images(images: ImageSet, split: str) -> list[InspectedImage]:
    """Inspect images that are decoded already."""
    image_format = DECODED_GRAY if images.images_u8.shape[1] == 1 else DECODED_RGB
    height, width = images.images_u8.shape[2:]
    return [
        InspectedImage(
            f"image {number}", split, label, (height, width), image_format, content_hash=_content_hash(image)
        )
        for number, (image, label) in enumerate(zip(images.images_u8.numpy(), images.labels.tolist(), strict=True))
    ]


def find_duplicates(images: Sequence[InspectedImage]) -> list[list[InspectedImage]]:
    """Return the groups of images with exactly the same pixels, the largest group first."""
    groups: dict[bytes, list[InspectedImage]] = defaultdict(list)
    for image in images:
        if image.error is None:
            groups[image.content_hash].append(image)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)


def _inspect_one(encoded: EncodedImages, index: int, split: str) -> InspectedImage:
    label = encoded.labels[index]
    try:
        name, data = encoded.read(index)
        image_u8 = decode_image(data, name)
        size_hw = (image_u8.shape[0], image_u8.shape[1])
        image_format = format_and_mode(data, name)
        is_dark = image_format.split()[1].startswith(("I", "F")) and int(image_u8.max()) < DARK_BELOW
        return InspectedImage(name, split, label, size_hw, image_format, is_dark, _content_hash(image_u8))
    except InputError as error:
        return InspectedImage(f"image {index}", split, label, error=str(error))


def _content_hash(image_u8: np.ndarray) -> bytes:
    """Return a digest of the pixels and their shape."""
    digest = hashlib.blake2b(repr(image_u8.shape).encode(), digest_size=16)
    digest.update(image_u8.tobytes())
    return digest.digest()
