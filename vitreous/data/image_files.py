"""Image files as users name them: folders are expanded, and the files are read a few at a time."""

import unicodedata
from collections.abc import Iterator, Sequence
from os.path import commonpath
from pathlib import Path

import numpy as np

from vitreous.errors import InputError
from vitreous.imaging.reading import open_image

BATCH_IMAGES = 16
BATCH_PIXELS = 8_000_000
"""A batch that has as many pixels gets no further image, so that photos are read one by one."""


def list_image_files(paths: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Return the image files that are named, with those in and below the folders that are named, each file once.

    Args:
        paths: files and folders. The files of a folder are those with an image extension, sorted by path.
        output: a folder whose files are left out, unless they are named.

    Raises:
        InputError: a folder holds no images.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _images_below(path, output) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _images_below(folder: Path, output: Path | None) -> list[Path]:
    from vitreous.data.file_tree import files_below
    from vitreous.data.folder import IMAGE_EXTENSIONS  # few calls name a folder

    written = None if output is None or output.resolve() == folder.resolve() else output.resolve()
    files = [
        file
        for file in files_below(folder)
        if file.suffix.lower() in IMAGE_EXTENSIONS and not (written and file.resolve().is_relative_to(written))
    ]
    if not files:
        raise InputError(f"the folder {folder} holds no images: name image files, or a folder of them")
    return files


def read_batches(paths: Sequence[Path]) -> Iterator[list[np.ndarray | InputError]]:
    """Read image files in order and yield a batch at a time: up to BATCH_IMAGES small ones, or one large one.

    An image is uint8 (height, width, 3); in place of one that can't be read is the reason.
    """
    batch: list[np.ndarray | InputError] = []
    for path in paths:
        try:
            batch.append(open_image(path))
        except InputError as error:
            batch.append(error)
        pixels = sum(image.size // 3 for image in batch if isinstance(image, np.ndarray))
        if len(batch) == BATCH_IMAGES or pixels >= BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


def distinct_file_names(paths: Sequence[Path], *, extensions: bool = False) -> list[Path]:
    """Return a name for each of several files, no two of which are the same on any file system.

    It is the file's name; where two would be the same, the path below the folder that holds all of them.

    Args:
        paths: different files.
        extensions: keep the extensions, even where the names are distinct without them.

    >>> [str(name) for name in distinct_file_names([Path("a/x.png"), Path("b/x.png")])]
    ['a/x', 'b/x']
    >>> [str(name) for name in distinct_file_names([Path("a/x.png"), Path("a/x.jpg")])]
    ['x.png', 'x.jpg']
    """
    if not paths:
        return []
    whole = [path.parent.resolve() / path.name for path in paths]
    folder = commonpath([path.parent for path in whole])
    nested = [path.relative_to(folder) for path in whole]
    flat = [Path(path.name) for path in nested]
    bare = [[path.with_suffix("") for path in names] for names in (flat, nested)]
    for names in [flat, nested] if extensions else [*bare, flat, nested]:
        if len({_comparable(name) for name in names}) == len(names):
            return names
    taken: set[str] = set()
    return [_numbered(name, taken) for name in nested]


def _comparable(name: Path) -> str:
    """Return a text that is the same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", str(name)).casefold()


def _numbered(name: Path, taken: set[str]) -> Path:
    """Return the name with a number if it is taken, and take it."""
    found, number = name, 1
    while _comparable(found) in taken:
        number += 1
        found = name.with_name(f"{name.name}-{number}")
    taken.add(_comparable(found))
    return found
