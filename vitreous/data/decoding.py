"""Decode many image files into one tensor, on all cores: Pillow's decoders release Python's lock."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitreous.data.file_tree import is_broken_link
from vitreous.data.read_options import ReadOptions
from vitreous.errors import InputError
from vitreous.files import os_error_reason
from vitreous.imaging.preprocessing import resize_images
from vitreous.imaging.reading import decode_image

MAX_TASK_IMAGES = 128
"""Images per task: one task per image would cost more than decoding a small image."""
MAX_TASK_BYTES = 1 << 24
"""Decoded bytes a task, which bounds the memory that decoding takes."""
THREADS = min(8, os.cpu_count() or 1)
NOTE_INTERVAL_SECONDS = 10.0


@dataclass(frozen=True)
class EncodedImages:
    """Labeled images as they are stored, one or more.

    Attributes:
        read: returns the name and the bytes of the image at an index, or raises InputError.
        labels: one label per image.
        class_names: one name per class.
        names: the path of each image in the data set; None where images are no files of their own.
    """

    read: Callable[[int], tuple[str, bytes]]
    labels: Sequence[int]
    class_names: tuple[str, ...]
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ResizeTo:
    """The size of all decoded images.

    Attributes:
        size: (height, width) in pixels.
        options: how images are resized; None if they must have this size already.
    """

    size: tuple[int, int]
    options: ReadOptions | None

    @property
    def image_bytes(self) -> int:
        """What one decoded RGB image takes."""
        return 3 * self.size[0] * self.size[1]


@dataclass(frozen=True)
class DecodedChunk:
    """Some consecutive images.

    Attributes:
        images_u8: uint8 (readable, 3, height, width).
        readable: the indexes of the images that could be decoded.
        unreadable: the index of each other image, and a line that says why.
    """

    images_u8: np.ndarray
    readable: list[int]
    unreadable: list[tuple[int, str]]


def decode_all(encoded: EncodedImages, target: ResizeTo, options: ReadOptions) -> tuple[torch.Tensor, list[int]]:
    """Decode images into memory: uint8 (readable, 3, height, width), and the indexes of the readable ones.

    Raises:
        InputError: some can't be decoded or differ in size, unless they are to be skipped; one line for all of them.
    """
    images_u8 = np.empty((len(encoded), 3, *target.size), np.uint8)
    readable: list[int] = []
    unreadable: list[str] = []
    for chunk in decode_chunks(encoded, target, options.on_note):
        images_u8[len(readable) : len(readable) + len(chunk.readable)] = chunk.images_u8
        readable += chunk.readable
        unreadable += [line for _, line in chunk.unreadable]
    options.check_unreadable(unreadable, len(encoded))
    return torch.from_numpy(images_u8[: len(readable)]), readable


def decode_chunks(encoded: EncodedImages, target: ResizeTo, on_note: Callable[[str], object]) -> Iterator[DecodedChunk]:
    """Decode images on all cores and yield them in order, in memory that doesn't grow with their number.

    `on_note` is called with the progress from time to time.
    """
    per_task = max(1, min(MAX_TASK_IMAGES, MAX_TASK_BYTES // target.image_bytes))
    starts, noted = range(0, len(encoded), per_task), time.monotonic()

    def decode_chunk(start: int) -> DecodedChunk:
        images_u8, readable, unreadable = np.empty((per_task, 3, *target.size), np.uint8), [], []
        for index in range(start, min(start + per_task, len(encoded))):
            try:
                images_u8[len(readable)] = _decode_one(*encoded.read(index), target)
                readable.append(index)
            except InputError as error:
                unreadable.append((index, str(error)))
        return DecodedChunk(images_u8[: len(readable)], readable, unreadable)

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(starts), 2 * THREADS):
            wave = starts[first : first + 2 * THREADS]
            yield from pool.map(decode_chunk, wave)
            if time.monotonic() - noted > NOTE_INTERVAL_SECONDS:
                noted = time.monotonic()
                on_note(f"decoded {min(wave[-1] + per_task, len(encoded)):,} of {len(encoded):,} images")


def resize_target(encoded: EncodedImages, image_size: tuple[int, int] | None, options: ReadOptions) -> ResizeTo:
    """Return the size wanted, or else that of the first image, which all must have.

    Raises:
        InputError: no size is wanted, and no image can be read.
    """
    return ResizeTo(image_size, options) if image_size else ResizeTo(_native_size(encoded), None)


def read_file(path: Path) -> tuple[str, bytes]:
    """Return a file's path and content.

    Raises:
        InputError: it can't be read.
    """
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        broken = isinstance(error, FileNotFoundError) and is_broken_link(path)
        problem = f"it is a link to {path.readlink()}, which doesn't exist" if broken else os_error_reason(error)
        raise InputError(f"can't read {path}: {problem}") from error


def _native_size(encoded: EncodedImages) -> tuple[int, int]:
    """Return the (height, width) of the first image that can be read."""
    failed: InputError | None = None
    for index in range(len(encoded)):
        try:
            name, data = encoded.read(index)
            height, width, _ = decode_image(data, name).shape
            return height, width
        except InputError as error:
            failed = failed or error
    assert failed is not None, "no images to decode"
    raise failed


def _decode_one(name: str, data: bytes, target: ResizeTo) -> np.ndarray:
    """Decode one image to uint8 (3, height, width) of the target's size."""
    image_u8 = decode_image(data, name)
    if target.options is not None:
        image = torch.from_numpy(image_u8).permute(2, 0, 1)[None]
        return resize_images(image, target.size, *target.options.resizing)[0].numpy()
    if image_u8.shape[:2] != target.size:
        own, others = (f"{height} x {width}" for height, width in (image_u8.shape[:2], target.size))
        raise InputError(f"{name} has {own} pixels, others {others}: give one size for all")
    return image_u8.transpose(2, 0, 1)
