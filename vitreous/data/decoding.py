"""Many image files to one tensor, on all cores: Pillow's decoders let go of Python's lock."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitreous.data.file_tree import is_lost
from vitreous.data.read_options import FixedSizeMode, ReadOptions
from vitreous.errors import InputError
from vitreous.files import reason
from vitreous.imaging.preprocessing import resize_image
from vitreous.imaging.reading import decode_image

MOST_AT_ONCE = 128  # images a task: a task for each would cost more than decoding a small image
BYTES_AT_ONCE = 1 << 24  # decoded, a task: what bounds the memory that decoding takes
THREADS = min(8, os.cpu_count() or 1)
TOLD_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class EncodedImages:
    """Labeled images as they are stored: `read(index)` gives an image's name and its bytes.

    `read` raises InputError where it can't; there are as many images as labels, one or more.
    """

    read: Callable[[int], tuple[str, bytes]]
    labels: Sequence[int]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ResizeTo:
    """The size of all decoded images, (height, width), and how they are brought to it; None: they must have it."""

    size_hw: tuple[int, int]
    rule: FixedSizeMode | None


@dataclass(frozen=True)
class Chunk:
    """Some images, one after the other: those that could be decoded, and a line on each that could not."""

    images_u8: np.ndarray
    """uint8 (readable, 3, height, width)."""
    readable: list[int]
    unreadable: list[tuple[int, str]]


def decode_all(encoded: EncodedImages, target: ResizeTo, reading: ReadOptions) -> tuple[torch.Tensor, list[int]]:
    """Decode images in memory: uint8 (readable, 3, height, width), and the indexes of those that are readable.

    Raises:
        InputError: some can't be decoded or differ in size (one line for all of them), unless they are to be skipped.
    """
    images_u8 = np.empty((len(encoded), 3, *target.size_hw), np.uint8)
    readable: list[int] = []
    unreadable: list[str] = []
    for chunk in decoded_chunks(encoded, target, reading.on_note):
        images_u8[len(readable) : len(readable) + len(chunk.readable)] = chunk.images_u8
        readable += chunk.readable
        unreadable += [line for _, line in chunk.unreadable]
    reading.check_unreadable(unreadable, len(encoded))
    return torch.from_numpy(images_u8[: len(readable)]), readable


def decoded_chunks(encoded: EncodedImages, target: ResizeTo, note: Callable[[str], object]) -> Iterator[Chunk]:
    """Decode images on all cores and give them in their order, in memory that doesn't grow with their number.

    `note` is told now and then how far it is.
    """
    at_once = max(1, min(MOST_AT_ONCE, BYTES_AT_ONCE // (3 * target.size_hw[0] * target.size_hw[1])))
    starts, told = range(0, len(encoded), at_once), time.monotonic()

    def decode_chunk(start: int) -> Chunk:
        images_u8, readable, unreadable = np.empty((at_once, 3, *target.size_hw), np.uint8), [], []
        for index in range(start, min(start + at_once, len(encoded))):
            try:
                images_u8[len(readable)] = decode_one(*encoded.read(index), target)
                readable.append(index)
            except InputError as error:
                unreadable.append((index, str(error)))
        return Chunk(images_u8[: len(readable)], readable, unreadable)

    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(0, len(starts), 2 * THREADS):
            wave = starts[first : first + 2 * THREADS]
            yield from pool.map(decode_chunk, wave)
            if time.monotonic() - told > TOLD_EVERY_SECONDS:
                told = time.monotonic()
                note(f"decoded {min(wave[-1] + at_once, len(encoded)):,} of {len(encoded):,} images")


def target_for(encoded: EncodedImages, size_hw: tuple[int, int] | None, reading: ReadOptions) -> ResizeTo:
    """The size asked for, or else that of the first image, which all must have."""
    return ResizeTo(size_hw, reading.resize_mode) if size_hw else ResizeTo(own_size(encoded), None)


def own_size(encoded: EncodedImages) -> tuple[int, int]:
    """The (height, width) of the first image that can be read.

    Raises:
        InputError: none can.
    """
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


def decode_one(name: str, data: bytes, target: ResizeTo) -> np.ndarray:
    """Decode an image to uint8 (3, height, width) of the target's size."""
    image_u8 = decode_image(data, name)
    if target.rule is not None:
        image_u8 = resize_image(image_u8, target.size_hw, target.rule)
    if image_u8.shape[:2] != target.size_hw:
        own, others = (f"{height} x {width}" for height, width in (image_u8.shape[:2], target.size_hw))
        raise InputError(f"{name} has {own} pixels, others {others}: name one size")
    return image_u8.transpose(2, 0, 1)


def read_file(path: Path) -> tuple[str, bytes]:
    """A file's path and its content.

    Raises:
        InputError: it can't be read.
    """
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        lost = isinstance(error, FileNotFoundError) and is_lost(path)
        why = f"it is a link to {path.readlink()}, which isn't there" if lost else reason(error)
        raise InputError(f"can't read {path}: {why}") from error
