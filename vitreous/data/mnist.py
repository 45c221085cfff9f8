"""Read MNIST from the IDX format that it is published in: a magic number, big-endian sizes, then the values."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from vitreous.data.image_set import ImageSet
from vitreous.downloads import Archive, fetch_cached
from vitreous.errors import InputError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_ARCHIVES = {  # split: (images, labels)
    "train": (
        Archive(f"{MIRROR}/train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
        Archive(f"{MIRROR}/train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28_881),
    ),
    "test": (
        Archive(f"{MIRROR}/t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 1_648_877),
        Archive(f"{MIRROR}/t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    ),
}
DIGITS = tuple("0123456789")
GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 8  # the IDX code for the type of the values
MAX_VALUES = 1 << 30
"""The most values that are read: twenty times those of MNIST. A header may state any number."""


def load_mnist(split: str) -> ImageSet:
    """Load MNIST's "train" (60,000) or "test" (10,000) images: one channel, 28 x 28 (LeCun et al. 1998).

    Raises:
        InputError: its files can't be found or downloaded, or are damaged.
    """
    images_path, labels_path = (fetch_cached(archive, "mnist") for archive in MNIST_ARCHIVES[split])
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= len(DIGITS):
        raise InputError(f"{images_path} and {labels_path} do not belong together: replace both")
    return ImageSet(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)), DIGITS)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not: uint8, with the shape that its header states.

    Raises:
        InputError: it can't be read, has another type of values, or is shorter or longer than its header says.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != bytes([0, 0, UNSIGNED_BYTE]):
                raise InputError(f"{path} is not an IDX file of bytes (it begins with {magic.hex()}): replace it")
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise EOFError("the file ends within its header")
            shape = tuple(np.frombuffer(sizes, ">u4").tolist())
            if math.prod(shape) > MAX_VALUES:
                raise InputError(f"{path} states {' x '.join(map(str, shape))} values, the limit is 2^30: replace it")
            values = file.read(math.prod(shape) + 1)  # one byte more, to detect a file that is too long
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"can't read {path}: the file is damaged or truncated ({error}); download it again") from error
    if len(values) != math.prod(shape):
        raise InputError(f"{path} does not have the {math.prod(shape)} bytes that its header states: replace it")
    return np.frombuffer(bytearray(values), np.uint8).reshape(shape)
