"""The images of a source one at a time, in the order of its splits, with their paths and labels."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitreous.data.dataset import Dataset, EncodedDataset
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.image_files import list_image_files
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import SOURCES, DrawnShapes, open_dataset, parse_source
from vitreous.errors import InputError, unknown
from vitreous.imaging.reading import decode_image

ALL_SPLITS = "all"
NO_LABEL = -1


@dataclass(frozen=True)
class StreamedSplit:
    """A split of a source, whose images are read when they are needed.

    Attributes:
        name: "train", "validation" or "test"; empty for a folder without splits.
        labels: indexes into the class names, or NO_LABEL.
        read: returns the path of the image at an index, and uint8 (height, width, 3); raises InputError.
    """

    name: str
    labels: Sequence[int]
    read: Callable[[int], tuple[str, np.ndarray]]


@dataclass(frozen=True)
class ImageStream:
    """The images of some splits of a source, numbered through.

    Attributes:
        source: its name.
        fingerprint: 16 hexadecimal digits that change with the images.
    """

    source: str
    splits: tuple[StreamedSplit, ...]
    class_names: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return sum(len(split.labels) for split in self.splits)

    def locate(self, index: int) -> tuple[StreamedSplit, int]:
        """Return the split of an image, and its number there."""
        for split in self.splits:
            if index < len(split.labels):
                return split, index
            index -= len(split.labels)
        raise IndexError(index)

    def read(self, index: int) -> tuple[str, np.ndarray]:
        """Return the path of an image, and uint8 (height, width, 3).

        Raises:
            InputError: it can't be read.
        """
        split, inside = self.locate(index)
        return split.read(inside)


def open_stream(source: str, split: str, size_hw: tuple[int, int]) -> ImageStream:
    """Find the images of a source.

    Args:
        source: one of `SOURCES`, such as "cifar10" or "folder:photos"; or the path of a folder of unlabeled images.
        split: "train", "validation", "test", or "all" that there are.
        size_hw: (height, width) in pixels at which drawn images are drawn; others keep their own size.

    Raises:
        InputError: there is no such source or split, or its images can't be found.
    """
    if source not in SOURCES and Path(source).expanduser().is_dir():
        return _open_plain_folder(Path(source).expanduser(), split)
    try:
        dataset = open_dataset(source)
    except InputError as error:
        folder = Path(source.removeprefix("folder:")).expanduser()
        if not source.startswith("folder:") or not folder.is_dir():
            raise
        raise InputError(f"{error}; embed and similar take the plain path {folder}, without labels") from None
    known = tuple(dataset.splits)
    if split not in (ALL_SPLITS, *known):
        raise unknown("split", split, [*known, ALL_SPLITS])
    names = known if split == ALL_SPLITS else (split,)
    opened = [_open_split(dataset, source, name, size_hw) for name in names]
    state = [(name, classes, state) for name, (_, classes, state) in zip(names, opened, strict=True)]
    return ImageStream(source, tuple(one for one, _, _ in opened), opened[0][1], _digest(state))


def root_of_paths(source: str) -> str:
    """Return the folder that the paths of a source start from, the current one; empty if they are valid anywhere."""
    if source not in SOURCES and Path(source).expanduser().is_dir():
        is_relative = not Path(source).expanduser().is_absolute()
    else:
        name, location = parse_source(source)
        is_relative = name.endswith(":DIR") and not location.is_absolute()
    return str(Path.cwd()) if is_relative else ""


def source_below(root: str, source: str) -> str:
    """Return a source whose path starts from `root` as one that is valid in any folder.

    >>> source_below("/data", "folder:photos"), source_below("/data", "photos")
    ('folder:/data/photos', '/data/photos')
    """
    kind, colon, location = source.partition(":")
    return f"{kind}:{Path(root, location)}" if colon and f"{kind}:DIR" in SOURCES else str(Path(root, source))


def _open_split(
    dataset: Dataset, source: str, name: str, size_hw: tuple[int, int]
) -> tuple[StreamedSplit, tuple[str, ...], object]:
    """Return a split with the class names, and all that decides what its images are."""
    if isinstance(dataset, EncodedDataset):
        encoded = dataset.encoded(name)
        return StreamedSplit(name, encoded.labels, partial(_decode, encoded)), encoded.class_names, dataset.state(name)
    images = dataset.load(name, size_hw if isinstance(dataset, DrawnShapes) else None, ReadOptions())
    read = partial(_image_in_memory, images, f"{source}/{name}")
    state = (source, len(images), size_hw if isinstance(dataset, DrawnShapes) else None)
    return StreamedSplit(name, images.labels.tolist(), read), images.class_names, state


def _decode(encoded: EncodedImages, index: int) -> tuple[str, np.ndarray]:
    name, data = encoded.read(index)
    return name, decode_image(data, name)


def _image_in_memory(images: ImageSet, name: str, index: int) -> tuple[str, np.ndarray]:
    image_u8 = images.images_u8[index].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return f"{name}/{index}", image_u8


def _open_plain_folder(folder: Path, split: str) -> ImageStream:
    """Find the images in and below a folder, without labels.

    Raises:
        InputError: it holds none, or a split is named.
    """
    if split != ALL_SPLITS:
        raise InputError(f"{folder} is a folder without splits: write folder:{folder} if it has one folder per class")
    files = list_image_files([folder])

    def read(index: int) -> tuple[str, np.ndarray]:
        name, data = read_file(files[index])
        return name, decode_image(data, name)

    stats = [(str(file.relative_to(folder)), _file_state(file)) for file in files]
    return ImageStream(str(folder), (StreamedSplit("", [NO_LABEL] * len(files), read),), (), _digest(stats))


def _file_state(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError:  # a broken link, which is reported when it is read
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _digest(state: object) -> str:
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]
