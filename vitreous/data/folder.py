"""Load a folder of images, one folder per class: DIR/train/CLASS and DIR/test/CLASS, or simply DIR/CLASS.

The folders of splits have the usual names (`SPLIT_NAMES`), in any capitals: train and val, Training and Testing; or
such a word is in their names: seg_train and seg_test. Class names that differ only in how an accent is encoded
(composed or decomposed Unicode) are one.

Hidden files and folders are ignored, as are those that a system leaves (`is_hidden`). Links to files and folders are
followed, and a broken link counts as an image that can't be read.

A simple DIR/CLASS is split by a hash of each file's content. So an image stays in its split when others are added,
removed or renamed, and copies of an image are never in different splits.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from vitreous.data.class_names import same_class
from vitreous.data.dataset import EncodedDataset
from vitreous.data.decode_cache import decode_cached
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.file_tree import files_below, files_outside, is_broken_link, is_hidden
from vitreous.data.image_set import ImageSet
from vitreous.data.read_options import ReadOptions
from vitreous.data.splits import SPLIT_NAMES, HoldOut, in_test_split, split_in_name
from vitreous.errors import InputError, printable
from vitreous.files import os_error_reason

IMAGE_EXTENSIONS = {
    *(".apng", ".avif", ".avifs", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"),
    *(".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
NONE_HELD_OUT = HoldOut(0.0)
ALL_SPLIT_NAMES = {name for names in SPLIT_NAMES.values() for name in names}


@dataclass(frozen=True)
class ImageFile:
    """An image of a class; size and modification time (in nanoseconds) tell when its content changes."""

    path: Path
    label: int
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class ImageFolder(EncodedDataset):
    """A folder of images, one folder per class.

    Attributes:
        folder: the folder.
        class_names: in the order of their numbers: by name.
    """

    folder: Path
    class_names: tuple[str, ...]

    @property
    def splits(self) -> Sequence[str]:
        """The splits that it has images for."""
        return tuple(self.split_folders) or ("train", "test")

    @cached_property
    def split_folders(self) -> Mapping[str, Path]:
        """The folders that are its splits; empty if its splits follow from the content of the files."""
        return split_folders(self.folder)

    @property
    def has_validation(self) -> bool:
        """Whether it has validation images of its own."""
        return "validation" in self.split_folders

    def load(
        self, split: str, image_size: tuple[int, int] | None, options: ReadOptions, hold_out: HoldOut = NONE_HELD_OUT
    ) -> ImageSet:
        """Load the "train", "validation" or "test" images, in RGB; they are decoded once, into the cache folder.

        Args:
            split: which.
            image_size: (height, width) in pixels that images are resized to; without it all must have one size.
            options: how they are resized, and whether unreadable ones are skipped.
            hold_out: which training images are the validation split, if there is no other.

        Raises:
            InputError: the folder is laid out differently, a class is empty, or images can't be read.
        """
        draw = ("by class",) if hold_out.by_class and hold_out.fraction else ()
        identity = ("folder", str(self.folder.resolve()), split, hold_out.fraction, *draw)
        return decode_cached(
            identity, self.state(split), lambda: self.encoded(split, hold_out), image_size, options.for_split(split)
        )

    def load_train_validation(
        self, image_size: tuple[int, int] | None, hold_out: HoldOut, options: ReadOptions
    ) -> tuple[ImageSet, ImageSet]:
        """Load the training and the validation images; both stay on the disk.

        Notes the number of files that are in no split.
        """
        if skipped := self.skipped_files():
            options.on_note(
                f"{len(skipped):,} file(s) in {self.folder} are skipped: {count_extensions(skipped)}; "
                "`vitreous data` lists them"
            )
        training = self.load("train", image_size, options, hold_out)
        if not self.has_validation and not self.files("validation", hold_out):
            return training, training.select([])
        return training, self.load("validation", image_size, options, hold_out)

    def check_splits(self) -> None:
        """Refuse splits with different classes, and classes without images.

        Raises:
            InputError: there are some.
        """
        for split in self.split_folders:
            self.list_images(split)

    def encoded(self, split: str, hold_out: HoldOut = NONE_HELD_OUT) -> EncodedImages:
        """Return the images of a split as they are stored."""
        files = self.files(split, hold_out)
        return EncodedImages(
            lambda index: read_file(files[index].path),
            [file.label for file in files],
            self.class_names,
            [file.path.relative_to(self.folder).as_posix() for file in files],
        )

    def state(self, split: str) -> object:
        """Return the class names, and path, size and modification time of the files among which the images are."""
        files = self.list_images(split)
        stats = [(str(file.path.relative_to(self.folder)), file.size_bytes, file.modified_ns) for file in files]
        return self.class_names, stats

    def files(self, split: str, hold_out: HoldOut = NONE_HELD_OUT) -> list[ImageFile]:
        """Return the files of a split; the files of a simple DIR/CLASS are read for it.

        Raises:
            InputError: there is no such split, or a class of it is empty.
        """
        files = self.list_images(split)
        if not self.split_folders:
            files = _split_by_hash(files, "test" if split == "test" else "train", self.folder)
        if split == "test" or self.has_validation:
            return files
        kept, held = hold_out.divide([file.label for file in files])
        return [files[index] for index in (held if split == "validation" else kept)]

    def skipped_files(self) -> list[Path]:
        """Return the files that are in no split, sorted: those without an image extension or in no class.

        Files directly in the folder that are not images, such as a README, don't count; nor do targets of links in a
        class.
        """
        roots = list(self.split_folders.values()) or [self.folder]
        classes = [one for root in roots for one in class_folders(root)]
        within = [path for one in classes for path in files_below(one)]
        outside = [path for path in files_outside(self.folder, set(classes))
                   if _is_image(path) or path.parent != self.folder]  # fmt: skip
        skipped = [*outside, *(path for path in within if not _is_image(path))]
        used = {os.path.realpath(path) for path in within if _is_image(path)} if skipped else ()
        return sorted(path for path in skipped if os.path.realpath(path) not in used)

    def list_images(self, split: str) -> list[ImageFile]:
        """Return the files among which those of a split are, without reading them."""
        if not self.split_folders:
            return _files_by_class(self.folder, self.class_names)
        wanted = "train" if split == "validation" and not self.has_validation else split
        if (root := self.split_folders.get(wanted)) is None:
            present = ", ".join(path.name for path in self.split_folders.values())
            raise InputError(
                f"{self.folder} has no {wanted} folder, only {present}: "
                f"add {self.folder / wanted} with the same classes"
            )
        found = {same_class(name): name for name in class_names_in(root)}
        known = {same_class(name): name for name in self.class_names}
        if different := sorted(found.keys() ^ known.keys()):
            names = ", ".join((found | known)[one] for one in different[:5])
            raise InputError(
                f"{root} and {next(iter(self.split_folders.values()))} differ in the class(es) {names}: make them equal"
            )
        return _files_by_class(root, self.class_names)


def open_image_folder(folder: Path) -> ImageFolder:
    """Find the classes of a folder of images.

    Raises:
        InputError: the folder doesn't exist, or has fewer than two classes.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the folder that has one folder of images per class")
    root = next(iter(split_folders(folder).values()), folder)
    names = class_names_in(root)
    if len(names) < 2:
        raise InputError(f"{root} has {len(names)} class folder(s), 2 or more are needed")
    return ImageFolder(folder, names)


def count_extensions(files: Sequence[Path]) -> str:
    """Return how many files have which extension, the most frequent first.

    >>> count_extensions([Path("a.heic"), Path("b.HEIC"), Path("LICENSE")])
    '.heic 2, none 1'
    """
    counts = Counter(path.suffix.lower() or "none" for path in files)
    return ", ".join(f"{one} {counts[one]:,}" for one in sorted(counts, key=lambda one: (-counts[one], one)))


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of the splits "train", "validation" and "test", those that there are, in this order.

    A folder may be called like a split or, as in seg_train and train2017, have one such word in its name. A class that
    is called "train" is none, because it has no folders itself.

    Raises:
        InputError: all folders are named like splits, but it is unclear which ones are.
    """
    children = class_folders(folder)
    exact = [child for child in children if child.name.lower() in ALL_SPLIT_NAMES and class_folders(child)]
    found = {}
    for split, words in SPLIT_NAMES.items():
        named = [child for child in exact if child.name.lower() in words]
        if named:
            found[split] = min(named, key=lambda child, words=words: (words.index(child.name.lower()), child.name))
    if "train" not in found and len(exact) < len(children):  # without training images, if there is nothing else
        found = _splits_by_word(folder, children)
    return {split: _unwrapped(root) for split, root in found.items()}


def _splits_by_word(folder: Path, children: Sequence[Path]) -> dict[str, Path]:
    """Return the folders that have one word of a split in their names, if what is in them shows that they are splits.

    They are if they hold classes of the same names, and no folder beside them does. Folders that may be splits but
    aren't laid out like this are refused: as classes, a model would learn to tell the splits apart.
    """
    named = {child: word for child in children if (word := split_in_name(child.name))}
    classes = {child: _classes_of_split(child) for child in named}
    splits = {child: word for child, word in named.items() if classes[child]}
    words, found = set(named.values()), set(splits.values())
    all_named = len(named) == len(children) and (len(words) > 1 or len(children) == 1)
    is_enough = len(splits) == len(children) or ("train" in found and (all_named or len(found) > 1))
    most = max((classes[child] for child in splits), key=len, default=set())
    alike = all(len(most & classes[child]) > 1 for child in splits)
    others = (child for child in children if child not in named)
    are_splits = is_enough and alike and not any(len(most & _classes_of_split(child)) > 1 for child in others)
    if are_splits and len(found) == len(splits):
        return {word: child for word in SPLIT_NAMES for child in splits if splits[child] == word}
    if "train" in words and len(words) > 1 and (all_named or are_splits):
        raise InputError(
            f"{', '.join(child.name for child in named)} in {folder} are called like splits, but don't hold the same "
            "folders, one per class: lay them out as train/CLASS and test/CLASS; if they are classes, rename them"
        )
    return {}


def _classes_of_split(root: Path) -> set[str]:
    return {same_class(name) for name in class_names_in(_unwrapped(root))}


def _unwrapped(root: Path) -> Path:
    """Return the folder of the classes of a split: train/images, seg_train/seg_train, else the folder itself."""
    inner = class_folders(root)
    is_wrapped = len(inner) == 1 and inner[0].name.lower() in ("images", root.name.lower()) and class_folders(inner[0])
    return inner[0] if is_wrapped else root


def class_names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes in a folder, in the order of its folders, without control characters."""
    names: dict[str, str] = {}
    for child in class_folders(folder):
        names.setdefault(same_class(child.name), printable(child.name))
    return tuple(names.values())


def class_folders(folder: Path) -> list[Path]:
    """Return the folders directly in `folder`, by name, without hidden ones."""
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name))
    except OSError as error:
        raise InputError(f"can't read the folder {folder}: {os_error_reason(error)}") from error


def _is_image(path: Path) -> bool:
    """Whether a file in a class is one of its images, readable or not."""
    return path.suffix.lower() in IMAGE_EXTENSIONS or is_broken_link(path)


def _files_by_class(folder: Path, class_names: tuple[str, ...]) -> list[ImageFile]:
    """Return the image files below each class's folder, ordered by class and path."""
    files = []
    folders = class_folders(folder)
    for label, name in enumerate(class_names):
        same = [child for child in folders if same_class(child.name) == same_class(name)]
        inside = [path for child in same for path in files_below(child)]
        found = [path for path in inside if _is_image(path)]
        if not found:
            others = f", only {count_extensions(inside)}" if inside else ""
            raise InputError(f"{folder / name} has no images{others}: add some or remove the folder")
        files += [_image_file(path, label) for path in found]
    return files


def _image_file(path: Path, label: int) -> ImageFile:
    """Return an image and its state; whether it can be read turns out when it is decoded."""
    try:
        state = path.stat()
    except OSError:
        return ImageFile(path, label, 0, 0)
    return ImageFile(path, label, state.st_size, state.st_mtime_ns)


def _split_by_hash(files: list[ImageFile], split: str, folder: Path) -> list[ImageFile]:
    """Return the files whose content belongs to `split`; each class keeps training images, and no split is empty."""
    in_test = _in_test_split(tuple(files))
    selected = [file for file, test in zip(files, in_test, strict=True) if test == (split == "test")]
    classes = {file.label for file in files} if split == "train" else set()
    if not selected or classes - {file.label for file in selected}:
        raise InputError(
            f"{folder} has too few images to hold out about 15 % of them for testing: "
            f"add some, or make {folder / 'train'} and {folder / 'test'}"
        )
    return selected


@lru_cache(maxsize=1)
def _in_test_split(files: tuple[ImageFile, ...]) -> list[bool]:
    """Whether each file's content belongs to the test split; unreadable files belong to the training split."""

    def is_test(file: ImageFile) -> bool:
        try:
            return in_test_split(read_file(file.path)[1])
        except InputError:
            return False

    with ThreadPoolExecutor() as pool:
        return list(pool.map(is_test, files))
