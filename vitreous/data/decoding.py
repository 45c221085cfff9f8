"""Many picture files to one tensor, on all cores: Pillow's decoders let go of Python's lock."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from vitreous.data.images import decode_picture
from vitreous.data.preprocessing import fit_picture
from vitreous.errors import InputError
from vitreous.files import reason

CHUNK = 128  # pictures a task: a task for each would cost more than decoding a small picture
NAMED = 3  # of the pictures that can't be read, how many the error names


def decode_all(read: Callable[[int], tuple[str, bytes]], count: int, size_hw: tuple[int, int] | None) -> torch.Tensor:
    """Decode `count` (1 or more) encoded pictures to uint8 (count, 3, height, width).

    `read(index)` gives a picture's name and its bytes. With `size_hw` a picture is stretched to that size,
    so that nothing of it is lost; without, all must have the size of the first.

    Raises:
        InputError: some can't be decoded (one line for all of them), or they differ in size.
    """
    name, data = read(0)
    height, width = size_hw or decode_picture(data, name).shape[:2]
    images_u8 = np.empty((count, 3, height, width), np.uint8)

    def decode_chunk(start: int) -> list[str]:
        failures = []
        for index in range(start, min(start + CHUNK, count)):
            try:
                images_u8[index] = decode_one(*read(index), (height, width), fit=size_hw is not None)
            except InputError as error:
                failures.append(str(error))
        return failures

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        failures = [line for lines in pool.map(decode_chunk, range(0, count, CHUNK)) for line in lines]
    if failures:
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        raise InputError(f"{len(failures)} of {count} pictures can't be used: {'; '.join(failures[:NAMED])}{more}")
    return torch.from_numpy(images_u8)


def decode_one(name: str, data: bytes, size_hw: tuple[int, int], *, fit: bool) -> np.ndarray:
    """Decode a picture to uint8 (3, height, width), made to fit or else required to have that size."""
    image_u8 = decode_picture(data, name)
    if fit:
        image_u8 = fit_picture(image_u8, size_hw, "stretch")
    if image_u8.shape[:2] != size_hw:
        height, width = image_u8.shape[:2]
        raise InputError(f"{name} has {height} x {width} pixels, others {size_hw[0]} x {size_hw[1]}: name one size")
    return image_u8.transpose(2, 0, 1)


def read_file(path: Path) -> tuple[str, bytes]:
    """A file's path and its content.

    Raises:
        InputError: it can't be read.
    """
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        raise InputError(f"can't read {path}: {reason(error)}") from error
