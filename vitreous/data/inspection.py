"""What the pictures of a data set are, one by one: size, kind, content, and whether they can be read at all."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.data.decoding import THREADS, read_file
from vitreous.data.folder import PictureFile
from vitreous.data.images import decode_picture, kind_of
from vitreous.data.pictures import Pictures
from vitreous.errors import InputError

AT_ONCE = 256  # pictures between two words on how far it is
DECODED_GREY = "decoded L"  # the kind of pictures of one channel that come decoded


@dataclass(frozen=True)
class Inspected:
    """One picture.

    Attributes:
        name: its file, or its split and number.
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


def inspect_files(
    files: Sequence[PictureFile], split: str, on_progress: Callable[[int], object] = lambda count: None
) -> list[Inspected]:
    """Decode each file, on all cores; `on_progress` is told how many more are done."""
    found: list[Inspected] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(files), AT_ONCE):
            part = files[first : first + AT_ONCE]
            found += pool.map(lambda file: inspect_file(file.path, split, file.label), part)
            on_progress(len(part))
    return found


def inspect_file(path: Path, split: str, label: int) -> Inspected:
    """Decode one file."""
    try:
        name, data = read_file(path)
        image_u8 = decode_picture(data, name)
        return Inspected(name, split, label, image_u8.shape[:2], kind_of(data, name), content_of(image_u8))
    except InputError as error:
        return Inspected(str(path), split, label, trouble=str(error))


def inspect_pictures(pictures: Pictures, split: str) -> list[Inspected]:
    """Look at pictures that are decoded already."""
    kind = DECODED_GREY if pictures.images_u8.shape[1] == 1 else "decoded RGB"
    height, width = pictures.images_u8.shape[2:]
    return [
        Inspected(f"{split} picture {number}", split, label, (height, width), kind, content_of(image))
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
