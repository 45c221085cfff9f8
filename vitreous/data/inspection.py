"""What the pictures of a data set are, one by one: size, kind, content, and whether they can be read at all."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitreous.data.decoding import THREADS, Encoded
from vitreous.data.images import decode_picture, kind_of
from vitreous.data.pictures import Pictures
from vitreous.errors import InputError

AT_ONCE = 256  # pictures between two words on how far it is
DECODED_GREY = "decoded L"  # the kind of pictures of one channel that come decoded


@dataclass(frozen=True)
class Inspected:
    """One picture.

    Attributes:
        name: its file, with its row in a Parquet file; or its number in its split.
        split: "train", "validation" or "test".
        label: its class.
        size_hw: (height, width) in pixels, upright; None if it can't be read.
        kind: format and mode: "JPEG RGB".
        content: a digest of its upright RGB pixels and their size, equal for equal pictures in whatever format.
        trouble: why it can't be read; None if it can.
    """

    name: str
    split: str
    label: int
    size_hw: tuple[int, int] | None = None
    kind: str = ""
    content: bytes = b""
    trouble: str | None = None


def inspect_encoded(
    encoded: Encoded, split: str, on_progress: Callable[[int, int], object] = lambda done, total: None
) -> list[Inspected]:
    """Decode each picture, on all cores; `on_progress` is told how many are done, of how many."""
    found: list[Inspected] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(encoded), AT_ONCE):
            found += pool.map(lambda i: inspect_one(encoded, i, split), range(len(encoded))[first : first + AT_ONCE])
            on_progress(len(found), len(encoded))
    return found


def inspect_one(encoded: Encoded, index: int, split: str) -> Inspected:
    """Decode one picture."""
    label = encoded.labels[index]
    try:
        name, data = encoded.read(index)
        image_u8 = decode_picture(data, name)
        return Inspected(name, split, label, image_u8.shape[:2], kind_of(data, name), content_of(image_u8))
    except InputError as error:
        return Inspected(f"picture {index}", split, label, trouble=str(error))


def inspect_pictures(pictures: Pictures, split: str) -> list[Inspected]:
    """Look at pictures that are decoded already."""
    kind = DECODED_GREY if pictures.images_u8.shape[1] == 1 else "decoded RGB"
    height, width = pictures.images_u8.shape[2:]
    return [
        Inspected(f"picture {number}", split, label, (height, width), kind, content_of(image))
        for number, (image, label) in enumerate(zip(pictures.images_u8.numpy(), pictures.labels.tolist(), strict=True))
    ]


def content_of(image_u8: np.ndarray) -> bytes:
    """A digest of pixels and their arrangement."""
    digest = hashlib.blake2b(repr(image_u8.shape).encode(), digest_size=16)
    digest.update(image_u8.tobytes())
    return digest.digest()


def copies(pictures: Sequence[Inspected]) -> list[list[Inspected]]:
    """The groups of pictures with exactly the same pixels, largest first."""
    groups: dict[bytes, list[Inspected]] = defaultdict(list)
    for one in pictures:
        if one.trouble is None:
            groups[one.content].append(one)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
