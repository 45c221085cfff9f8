"""What the images of a data set are, one by one: size, kind, content, and whether they can be read at all."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitreous.data.decoding import THREADS, EncodedImages
from vitreous.data.image_set import ImageSet
from vitreous.errors import InputError
from vitreous.imaging.reading import decode_image, format_and_mode

AT_ONCE = 256  # images between two words on how far it is
DECODED_GRAY = "decoded L"  # the kind of images of one channel that come decoded


@dataclass(frozen=True)
class InspectedImage:
    """One image.

    Attributes:
        name: its file, with its row in a Parquet file; or its number in its split.
        split: "train", "validation" or "test".
        label: its class.
        size_hw: (height, width) in pixels, upright; None if it can't be read.
        kind: format and mode: "JPEG RGB".
        content: a digest of its upright RGB pixels and their size, equal for equal images in whatever format.
        trouble: why it can't be read; None if it can.
    """

    name: str
    split: str
    label: int
    size_hw: tuple[int, int] | None = None
    kind: str = ""
    content: bytes = b""
    error: str | None = None


def inspect_encoded(
    encoded: EncodedImages, split: str, on_progress: Callable[[int, int], object] = lambda done, total: None
) -> list[InspectedImage]:
    """Decode each image, on all cores; `on_progress` is told how many are done, of how many."""
    found: list[InspectedImage] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(encoded), AT_ONCE):
            found += pool.map(lambda i: inspect_one(encoded, i, split), range(len(encoded))[first : first + AT_ONCE])
            on_progress(len(found), len(encoded))
    return found


def inspect_one(encoded: EncodedImages, index: int, split: str) -> InspectedImage:
    """Decode one image."""
    label = encoded.labels[index]
    try:
        name, data = encoded.read(index)
        image_u8 = decode_image(data, name)
        return InspectedImage(name, split, label, image_u8.shape[:2], format_and_mode(data, name), content_of(image_u8))
    except InputError as error:
        return InspectedImage(f"image {index}", split, label, error=str(error))


def inspect_images(images: ImageSet, split: str) -> list[InspectedImage]:
    """Look at images that are decoded already."""
    kind = DECODED_GRAY if images.images_u8.shape[1] == 1 else "decoded RGB"
    height, width = images.images_u8.shape[2:]
    return [
        InspectedImage(f"image {number}", split, label, (height, width), kind, content_of(image))
        for number, (image, label) in enumerate(zip(images.images_u8.numpy(), images.labels.tolist(), strict=True))
    ]


def content_of(image_u8: np.ndarray) -> bytes:
    """A digest of pixels and their arrangement."""
    digest = hashlib.blake2b(repr(image_u8.shape).encode(), digest_size=16)
    digest.update(image_u8.tobytes())
    return digest.digest()


def find_duplicates(images: Sequence[InspectedImage]) -> list[list[InspectedImage]]:
    """The groups of images with exactly the same pixels, largest first."""
    groups: dict[bytes, list[InspectedImage]] = defaultdict(list)
    for one in images:
        if one.error is None:
            groups[one.content].append(one)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
