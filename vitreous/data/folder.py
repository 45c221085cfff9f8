"""A folder of one's own pictures, one folder a class: DIR/train/CLASS and DIR/test/CLASS, or simply DIR/CLASS.

A simple DIR/CLASS is divided by a hash of each file's content, so a picture stays in its part when others are added,
removed or renamed, and copies of a picture never land on both sides.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from vitreous.data.decoding import decode_all, read_file
from vitreous.data.pictures import Pictures
from vitreous.data.splits import falls_into_test
from vitreous.errors import InputError
from vitreous.files import reason

SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FOLDER_NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load_folder(folder: Path, part: str, size_hw: tuple[int, int] | None = None) -> Pictures:
    """The "train", "validation" or "test" pictures of `folder`, in RGB; classes are numbered by name.

    Pictures are stretched to `size_hw`; without it all must be of one size.

    Raises:
        InputError: the folder is not laid out as above, a class is empty, or pictures can't be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the folder that holds one folder of pictures a class")
    trained = part_folder(folder, "train")
    class_names = tuple(child.name for child in class_folders(trained or folder))
    if len(class_names) < 2:
        raise InputError(f"{trained or folder} holds {len(class_names)} class folder(s), 2 or more are needed")
    if trained:
        files = files_of_part(folder, part, class_names)
    else:
        files = divided(files_by_class(folder, class_names), part, folder)
    images_u8 = decode_all(lambda index: read_file(files[index][0]), len(files), size_hw)
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    return Pictures(images_u8, labels, class_names)


def has_validation(folder: Path) -> bool:
    """Whether `folder` brings validation pictures of its own."""
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


def files_by_class(folder: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """The picture files under each class's folder, in a fixed order, with the class's index."""
    files = []
    for label, name in enumerate(class_names):
        found = sorted(
            path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not found:
            raise InputError(f"{folder / name} holds no pictures: add some or remove the folder")
        files += [(path, label) for path in found]
    return files


def files_of_part(folder: Path, part: str, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
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


def divided(files: list[tuple[Path, int]], part: str, folder: Path) -> list[tuple[Path, int]]:
    """The files whose content falls into `part`; each class keeps some to train on, and no part is empty."""
    with ThreadPoolExecutor() as pool:
        tests = list(pool.map(lambda file: falls_into_test(read_file(file[0])[1]), files))
    chosen = [file for file, for_test in zip(files, tests, strict=True) if for_test == (part == "test")]
    classes = {label for _, label in files} if part == "train" else set()
    if not chosen or classes - {label for _, label in chosen}:
        raise InputError(
            f"{folder} has too few pictures to set about 15 % of them aside for testing: "
            f"add some, or make {folder / 'train'} and {folder / 'test'}"
        )
    return chosen
