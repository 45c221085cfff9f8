"""A folder of one's own images, one folder a class: DIR/train/CLASS and DIR/test/CLASS, or simply DIR/CLASS.

Hidden files and folders are no part of it; links to files and folders are followed, and one that leads to nothing
counts as an image that can't be read.

A simple DIR/CLASS is divided by a hash of each file's content, so an image stays in its part when others are added,
removed or renamed, and copies of an image never land on both sides.
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vitreous.data.decode_cache import decode_cached
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.file_tree import files_beside, files_under, is_lost
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.data.splits import hold_out, in_test_split
from vitreous.errors import InputError
from vitreous.files import reason

SUFFIXES = {
    *(".apng", ".avif", ".avifs", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
"""By which a file is known as an image that can be read."""
FOLDER_NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


@dataclass(frozen=True)
class ImageFile:
    """An image of a class, and by which size and time (in nanoseconds) a change of its content is noticed."""

    path: Path
    label: int
    size_bytes: int
    changed_ns: int


def load_folder(
    folder: Path,
    part: str,
    size_hw: tuple[int, int] | None = None,
    reading: ReadOptions | None = None,
    held_out: float = 0.0,
) -> ImageSet:
    """The "train", "validation" or "test" images of `folder`, in RGB; classes are numbered by name.

    They are decoded once, into the cache folder, and brought to `size_hw`; without it all must be of one size.
    Where the folder brings no validation images, the share `held_out` of the training images are these.

    Raises:
        InputError: the folder is not laid out as above, a class is empty, or images can't be read.
    """
    class_names, files = class_names_of(folder), list_images(folder, part)
    state = (class_names, [(str(one.path.relative_to(folder)), one.size_bytes, one.changed_ns) for one in files])

    def encoded() -> EncodedImages:
        chosen = files_of(folder, part, held_out)
        return EncodedImages(lambda index: read_file(chosen[index].path), [one.label for one in chosen], class_names)

    identity = ("folder", str(folder.resolve()), part, held_out)
    return decode_cached(identity, state, encoded, size_hw, (reading or ReadOptions()).for_split(part))


def load_training_folder(
    folder: Path, size_hw: tuple[int, int] | None, reading: ReadOptions, held_out: float
) -> tuple[ImageSet, ImageSet]:
    """The "train" and the "validation" images, each left on the disk; the latter are none where none are held out.

    A note tells how many files of the folder are in no part.
    """
    class_names_of(folder)  # before all else: whether it is such a folder
    if files := skipped_files(folder):
        reading.on_note(
            f"{len(files):,} file(s) in {folder} are left out: {endings(files)}; `vitreous data` names them"
        )
    training = load_folder(folder, "train", size_hw, reading, held_out)
    if held_out == 0 and not has_validation(folder):
        return training, training.select([])
    return training, load_folder(folder, "validation", size_hw, reading, held_out)


def class_names_of(folder: Path) -> tuple[str, ...]:
    """The names of the classes, in the order of their numbers.

    Raises:
        InputError: the folder isn't there, or holds less than two.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the folder that holds one folder of images a class")
    place = part_folder(folder, "train") or folder
    names = tuple(child.name for child in class_folders(place))
    if len(names) < 2:
        raise InputError(f"{place} holds {len(names)} class folder(s), 2 or more are needed")
    return names


def files_of(folder: Path, part: str, held_out: float = 0.0) -> list[ImageFile]:
    """The files of a part; a simple DIR/CLASS is read for it."""
    files = list_images(folder, part)
    if part_folder(folder, "train") is None:
        files = divided(files, "test" if part == "test" else "train", folder)
    if part == "test" or has_validation(folder):
        return files
    kept, held = hold_out(len(files), held_out)
    return [files[index] for index in (held if part == "validation" else kept)]


def list_images(folder: Path, part: str) -> list[ImageFile]:
    """The files among which those of a part are, found without reading them."""
    names = class_names_of(folder)
    if part_folder(folder, "train") is None:
        return files_by_class(folder, names)
    return files_of_part(folder, "train" if part == "validation" and not has_validation(folder) else part, names)


def skipped_files(folder: Path) -> list[Path]:
    """The files that are in no part, as they have no image's ending, or lie in no class; sorted.

    What lies directly in `folder` and is no image, such as a README, is none of them; nor is what a class has a link
    to.
    """
    places = [place for part in FOLDER_NAMES if (place := part_folder(folder, part))]
    places = places if part_folder(folder, "train") else [folder]
    classes = [one for place in places for one in class_folders(place)]
    within = [path for one in classes for path in files_under(one)]
    beside = [path for path in files_beside(folder, set(classes)) if is_image(path) or path.parent != folder]
    strange = [*beside, *(path for path in within if not is_image(path))]
    taken = {os.path.realpath(path) for path in within if is_image(path)} if strange else ()
    return sorted(path for path in strange if os.path.realpath(path) not in taken)


def is_image(path: Path) -> bool:
    """Whether a file in a class counts as one of its images, be it that one learns that it can't be read."""
    return path.suffix.lower() in SUFFIXES or is_lost(path)


def endings(files: Sequence[Path]) -> str:
    """How many files have which ending, the most frequent first: ".heic 12, none 3"."""
    counts = Counter(path.suffix.lower() or "none" for path in files)
    return ", ".join(f"{ending} {counts[ending]:,}" for ending in sorted(counts, key=lambda one: (-counts[one], one)))


def has_validation(folder: Path) -> bool:
    """Whether `folder` brings validation images of its own."""
    return part_folder(folder, "train") is not None and part_folder(folder, "validation") is not None


def part_folder(folder: Path, part: str) -> Path | None:
    """The folder of a part, told from a class that is called "train" by holding folders itself."""
    places = (folder / name for name in FOLDER_NAMES[part])
    return next((place for place in places if place.is_dir() and class_folders(place)), None)


def class_folders(folder: Path) -> list[Path]:
    """The folders directly in `folder`, by name, without hidden ones."""
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError as error:
        raise InputError(f"can't read the folder {folder}: {reason(error)}") from error


def files_by_class(folder: Path, class_names: tuple[str, ...]) -> list[ImageFile]:
    """The image files under each class's folder, in a fixed order: by their paths."""
    files = []
    for label, name in enumerate(class_names):
        inside = files_under(folder / name)
        found = [path for path in inside if is_image(path)]
        if not found:
            others = f", only {endings(inside)}" if inside else ""
            raise InputError(f"{folder / name} holds no images{others}: add some or remove the folder")
        files += [image_file(path, label) for path in found]
    return files


def image_file(path: Path, label: int) -> ImageFile:
    """An image and its state; what can't be read is left to those who decode it."""
    try:
        state = path.stat()
    except OSError:
        return ImageFile(path, label, 0, 0)
    return ImageFile(path, label, state.st_size, state.st_mtime_ns)


def files_of_part(folder: Path, part: str, class_names: tuple[str, ...]) -> list[ImageFile]:
    """The files of a part that has a folder of its own, which must hold the same classes as the training folder."""
    place = part_folder(folder, part)
    if place is None:
        raise InputError(f"{folder} has a train folder but no {part} folder: add {folder / part} with the same classes")
    found = tuple(child.name for child in class_folders(place))
    if different := sorted(set(found) ^ set(class_names)):
        raise InputError(
            f"{place} and the train folder differ in the class(es) {', '.join(different[:5])}: make them equal"
        )
    return files_by_class(place, class_names)


def divided(files: list[ImageFile], part: str, folder: Path) -> list[ImageFile]:
    """The files whose content falls into `part`; each class keeps some to train on, and no part is empty."""
    chosen = [file for file, test in zip(files, are_for_testing(tuple(files)), strict=True) if test == (part == "test")]
    classes = {file.label for file in files} if part == "train" else set()
    if not chosen or classes - {file.label for file in chosen}:
        raise InputError(
            f"{folder} has too few images to set about 15 % of them aside for testing: "
            f"add some, or make {folder / 'train'} and {folder / 'test'}"
        )
    return chosen


@lru_cache(maxsize=1)
def are_for_testing(files: tuple[ImageFile, ...]) -> list[bool]:
    """Whether each file's content falls into the test part; what can't be read is left to those who decode it."""

    def is_for_testing(file: ImageFile) -> bool:
        try:
            return in_test_split(read_file(file.path)[1])
        except InputError:
            return False

    with ThreadPoolExecutor() as pool:
        return list(pool.map(is_for_testing, files))
