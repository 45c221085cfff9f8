"""Look at a data set before anything is learned from it: what is in it, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitreous.data.available_memory import budget_bytes
from vitreous.data.class_weights import class_weights
from vitreous.data.decoding import EncodedImages, read_file
from vitreous.data.folder import (
    ImageFile,
    class_names_of,
    endings,
    files_of,
    has_validation,
    part_folder,
    skipped_files,
)
from vitreous.data.inspection import DECODED_GRAY, InspectedImage, find_duplicates, inspect_encoded, inspect_images
from vitreous.data.sources import DEFAULT_FRACTION, SOURCES, load_images, load_train_validation, parse_source
from vitreous.data.splits import hold_out
from vitreous.errors import InputError
from vitreous.recipes import find_recipe

SPLITS = ("train", "validation", "test")
SIZES = (32, 64, 224)
"""Of decoded images, in pixels a side, for which the memory is told where no recipe says one."""
Done = Callable[[int, int, str], object]


@dataclass(frozen=True)
class ClassCount:
    """One class: how many readable images it has in each split, and its weight with class_weights=balanced."""

    name: str
    counts: dict[str, int]
    weight: float


@dataclass(frozen=True)
class Sizes:
    """The sizes of all readable images, (height, width) in pixels, upright; smallest and largest by area."""

    smallest_hw: tuple[int, int]
    median_hw: tuple[int, int]
    largest_hw: tuple[int, int]
    not_square: int
    different: int


@dataclass(frozen=True)
class Decoded:
    """What the images of all splits take once they are decoded at one size."""

    size_hw: tuple[int, int]
    gigabytes: float
    fits: bool
    """Into half of the memory that is free; else training reads them from the disk as it goes."""


@dataclass(frozen=True)
class DataReport:
    """What a data set holds.

    Attributes:
        source, recipe: what was looked at, and for which recipe, if any.
        classes: in the order of their numbers.
        splits: how many readable images each has.
        held_out: the share of the training images that the validation split was taken from; None if it has its own.
        sizes, kinds: of the readable images; how many of each format and mode.
        unreadable: the others, a line on each with its file and what is wrong with it.
        left_out: files of a folder that are in no split: without an image's ending, or in no class.
        left_out_endings: how many of them have which: ".heic 12, none 3".
        copies: groups of images with exactly the same pixels, each image with its split: "a/1.png (validation)".
        leaks: those of these groups that lie in more than one split; one image of each split comes first.
        contradictions: those of these groups that lie in more than one class; one image of each comes first.
        imbalance: training images of the largest class for each one of the smallest; None if that has none.
        decoded: the memory that they take.
    """

    source: str
    recipe: str | None
    classes: list[ClassCount]
    splits: dict[str, int]
    held_out: float | None
    sizes: Sizes
    kinds: dict[str, int]
    unreadable: list[str]
    left_out: list[str]
    left_out_endings: str
    copies: list[list[str]]
    leaks: list[list[str]]
    contradictions: list[list[str]]
    imbalance: float | None
    decoded: list[Decoded]

    @property
    def faults(self) -> list[str]:
        """What must be mended before a score means anything, in words; empty for sound data."""
        found = []
        if self.unreadable:
            found.append(f"{len(self.unreadable)} unreadable image(s): mend or remove them, or use --skip-unreadable")
        if self.leaks:
            found.append(f"{len(self.leaks)} image(s) in more than one split: delete the copies of each but one")
        return found


def inspect_data(source: str, recipe: str | None = None, on_progress: Done = lambda *words: None) -> DataReport:
    """Look at every image of a source: counts, sizes, unreadable files, exact copies, balance, memory.

    Two images are copies if their upright RGB pixels are the same, whatever format they are in.

    Args:
        source: "folder:DIR" above all, or any other.
        recipe: for which the memory is told, and how much is held out to validate on.
        on_progress: told how many images are done, of how many, and which split they are of.

    Raises:
        InputError: there is no such source or recipe, or no image can be read.
    """
    chosen = find_recipe(recipe) if recipe is not None else None
    fraction = chosen.validation_fraction if chosen is not None else DEFAULT_FRACTION
    sides = [chosen.model.image_size] if chosen is not None else [(side, side) for side in SIZES]
    look = _files if parse_source(source)[0] == "folder:DIR" else _stored
    contents = look(source, fraction, on_progress)
    if all(one.error is not None for one in contents.images):
        first = contents.images[0].error
        raise InputError(f"{source}: none of the {len(contents.images)} images can be read, the first: {first}")
    return _report(source, recipe, contents, sides)


@dataclass(frozen=True)
class _Contents:
    """All images of a source, the share of the training images that is held out, if one is, and files left out."""

    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    images: list[InspectedImage]
    held_out: float | None
    left_out: Sequence[Path] = ()


def _files(source: str, fraction: float, on_progress: Done) -> _Contents:
    folder = parse_source(source)[1]
    names, own = class_names_of(folder), has_validation(folder)
    has_test = part_folder(folder, "train") is None or part_folder(folder, "test") is not None
    splits = SPLITS if has_test else SPLITS[:2]
    found = []
    for split in splits:
        files = files_of(folder, split, fraction)
        found += _inspected(_encoded(files, names), split, on_progress)
    return _Contents(names, splits, found, None if own else fraction, skipped_files(folder))


def _encoded(files: Sequence[ImageFile], class_names: tuple[str, ...]) -> EncodedImages:
    return EncodedImages(lambda index: read_file(files[index].path), [file.label for file in files], class_names)


def _stored(source: str, fraction: float, on_progress: Done) -> _Contents:
    """Images looked at as they are stored, whatever their sizes; the held-out ones are those of a training run."""
    name, folder = parse_source(source)
    encoded = SOURCES[name].encoded
    if encoded is None:
        return _ready_made(source, fraction, on_progress)
    parts = SOURCES[name].splits(folder)
    training = encoded("train", folder)
    found, names = _inspected(training, "train", on_progress), training.class_names
    del training  # its bytes are in memory
    readable = [index for index, one in enumerate(found) if one.error is None]
    own = "validation" in parts
    if readable and not own:
        for place in hold_out(len(readable), fraction)[1]:
            found[readable[place]] = replace(found[readable[place]], split="validation")
    for split in (split for split in SPLITS[1:] if split in parts):
        found += _inspected(encoded(split, folder), split, on_progress)
    splits = tuple(split for split in SPLITS if split != "test" or split in parts)
    return _Contents(names, splits, found, None if own else fraction)


def _inspected(encoded: EncodedImages, split: str, on_progress: Done) -> list[InspectedImage]:
    return inspect_encoded(encoded, split, lambda done, total: on_progress(done, total, split))


def _ready_made(source: str, fraction: float, on_progress: Done) -> _Contents:
    """Images that come decoded and of one size."""
    training, validation = load_train_validation(source, None, fraction)
    parts, found = dict(zip(SPLITS, (training, validation, load_images(source, "test")), strict=True)), []
    for number, (split, images) in enumerate(parts.items(), 1):
        found += inspect_images(images, split)
        on_progress(number, len(parts), split)
    return _Contents(training.class_names, SPLITS, found, fraction)


def _report(source: str, recipe: str | None, contents: _Contents, sides: Sequence[tuple[int, int]]) -> DataReport:
    readable = [one for one in contents.images if one.error is None]
    groups = find_duplicates(readable)
    counts = Counter((one.label, one.split) for one in readable)
    training = [counts[label, "train"] for label in range(len(contents.class_names))]
    weights = class_weights(training).tolist() if any(training) else [0.0] * len(training)
    budget = budget_bytes()
    return DataReport(
        source=source,
        recipe=recipe,
        classes=[
            ClassCount(name, {split: counts[label, split] for split in contents.splits}, weights[label])
            for label, name in enumerate(contents.class_names)
        ],
        splits={split: sum(one.split == split for one in readable) for split in contents.splits},
        held_out=contents.held_out,
        sizes=_sizes([one.size_hw for one in readable if one.size_hw is not None]),
        kinds=dict(Counter(one.kind for one in readable).most_common()),
        unreadable=[one.error for one in contents.images if one.error is not None],
        left_out=[str(path) for path in contents.left_out],
        left_out_endings=endings(contents.left_out),
        copies=_names(groups),
        leaks=_names(_spread(groups, lambda one: one.split)),
        contradictions=_names(_spread(groups, lambda one: one.label)),
        imbalance=max(training) / min(training) if min(training) else None,
        decoded=[_decoded(size_hw, readable, budget) for size_hw in sides],
    )


def _names(groups: Sequence[Sequence[InspectedImage]]) -> list[list[str]]:
    return [[f"{one.name} ({one.split})" for one in group] for group in groups]


def _spread(
    groups: Sequence[Sequence[InspectedImage]], of: Callable[[InspectedImage], str | int]
) -> list[list[InspectedImage]]:
    """The groups that lie in more than one split or class; in each, the first image of each of these comes first."""
    spread = []
    for group in groups:
        firsts = {of(one): one for one in reversed(group)}
        if len(firsts) > 1:
            spread.append(sorted(group, key=lambda one, firsts=firsts: firsts[of(one)] is not one))
    return spread


def _sizes(sizes: list[tuple[int, int]]) -> Sizes:
    ordered = sorted(sizes, key=lambda size_hw: (size_hw[0] * size_hw[1], size_hw))
    not_square = sum(height != width for height, width in ordered)
    return Sizes(ordered[0], ordered[len(ordered) // 2], ordered[-1], not_square, len(set(ordered)))


def _decoded(size_hw: tuple[int, int], readable: Sequence[InspectedImage], budget: int) -> Decoded:
    channels = 1 if readable[0].kind == DECODED_GRAY else 3
    needed = channels * size_hw[0] * size_hw[1] * len(readable)
    return Decoded(size_hw, needed / 1e9, needed <= budget)
