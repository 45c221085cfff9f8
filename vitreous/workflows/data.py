"""Inspect a dataset before a model learns from it: what it contains, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, Progress
from vitreous.data.available_memory import budget_bytes
from vitreous.data.class_weights import class_weights
from vitreous.data.dataset import Dataset, EncodedDataset
from vitreous.data.folder import ImageFolder, count_extensions
from vitreous.data.inspection import DECODED_GRAY, InspectedImage, find_duplicates, inspect_encoded, inspect_images
from vitreous.data.read_options import ReadOptions
from vitreous.data.sources import DEFAULT_FRACTION, open_dataset
from vitreous.data.splits import HoldOut
from vitreous.errors import InputError
from vitreous.training_recipes import find_recipe

SPLITS = ("train", "validation", "test")
SIDES = (32, 64, 224)
"""The sizes of decoded images, in pixels a side, whose memory is reported without a recipe."""


@dataclass(frozen=True)
class ClassCount:
    """The readable images of one class by split, and its weight with class_weights=balanced."""

    name: str
    counts: dict[str, int]
    weight: float


@dataclass(frozen=True)
class ImageSizes:
    """The sizes of all readable images, (height, width) in pixels, upright; smallest and largest by area."""

    smallest_hw: tuple[int, int]
    median_hw: tuple[int, int]
    largest_hw: tuple[int, int]
    not_square: int
    distinct: int


@dataclass(frozen=True)
class DecodedSize:
    """The memory that the images of all splits take when they are decoded at one size.

    Attributes:
        size_hw: (height, width) in pixels.
        gigabytes: of all images.
        fits: whether they fit into half of the free memory; otherwise training reads them from the disk.
    """

    size_hw: tuple[int, int]
    gigabytes: float
    fits: bool


@dataclass(frozen=True, repr=False)
class DataReport:
    """What a dataset contains.

    Attributes:
        source: the dataset.
        recipe: the recipe that it was inspected for, if any.
        classes: in the order of their numbers.
        splits: the number of readable images by split.
        validation_fraction: the fraction of the training images that is the validation split; None if it has its own.
        sizes: of the readable images.
        formats: the number of readable images by format and mode.
        unreadable: a line on each other image, with its file and the error.
        skipped: files of a folder that are in no split: without an image extension, or in no class.
        skipped_extensions: how many of them have which extension: ".heic 12, none 3".
        dark: the images of more than 8 bits that use less than a quarter of their full scale: perhaps they are 12-bit
            values in 16 bits, which are nearly black.
        duplicates: groups of images with exactly the same pixels, each image with its split: "a/1.png (validation)".
        leaks: those of these groups that are in more than one split; one image of each split comes first.
        label_conflicts: those of these groups that are in more than one class; one image of each class comes first.
        imbalance: the training images of the largest class divided by those of the smallest; None if that has none.
        decoded: the memory that the images take.
    """

    source: str
    recipe: str | None
    classes: list[ClassCount]
    splits: dict[str, int]
    validation_fraction: float | None
    sizes: ImageSizes
    formats: dict[str, int]
    unreadable: list[str]
    skipped: list[str]
    skipped_extensions: str
    dark: list[str]
    duplicates: list[list[str]]
    leaks: list[list[str]]
    label_conflicts: list[list[str]]
    imbalance: float | None
    decoded: list[DecodedSize]

    @property
    def problems(self) -> list[str]:
        """What must be repaired before a score means anything; empty if nothing must."""
        found = []
        if self.unreadable:
            found.append(f"{len(self.unreadable)} unreadable image(s): repair or remove them, or use --skip-unreadable")
        if self.leaks:
            found.append(f"{len(self.leaks)} image(s) in more than one split: delete all but one of each")
        return found

    def to_json(self) -> dict[str, object]:
        """Return the report as plain dictionaries."""
        return asdict(self)

    def __repr__(self) -> str:
        splits = ", ".join(f"{count:,} {split}" for split, count in self.splits.items())
        return f"DataReport({self.source}: {splits}, {len(self.classes):,} classes, {len(self.problems)} problem(s))"


@check_arguments
def inspect_data(source: str, recipe: str | None = None, *, callback: Callback | None = None) -> DataReport:
    """Inspect every image of a dataset: counts, sizes, unreadable files, exact duplicates, balance, memory.

    Two images are duplicates if their upright RGB pixels are the same, whatever their formats.

    Args:
        source: "folder:DIR" or any other source.
        recipe: the recipe whose image size and validation fraction are used.
        callback: `on_progress` receives the number of images that are done, with the split as the message.

    Raises:
        InputError: there is no such source or recipe, or no image can be read.

    >>> inspect_data("shapes")
    DataReport(shapes: 9,500 train, 500 validation, 2,000 test, 8 classes, 0 problem(s))
    """
    selected = find_recipe(recipe) if recipe is not None else None
    hold_out = selected.hold_out if selected is not None else HoldOut(DEFAULT_FRACTION)
    sizes = [selected.model.image_size] if selected is not None else [(side, side) for side in SIDES]
    contents = _inspect(open_dataset(source), hold_out, callback or Callback())
    if all(image.error is not None for image in contents.images):
        first = contents.images[0].error
        raise InputError(f"{source}: none of the {len(contents.images)} images can be read, the first: {first}")
    return _report(source, recipe, contents, sizes)


@dataclass(frozen=True)
class _Contents:
    """All images of a dataset, the fraction that is held out (None if none is), and the files in no split."""

    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    images: list[InspectedImage]
    validation_fraction: float | None
    skipped: Sequence[Path] = ()


def _inspect(dataset: Dataset, hold_out: HoldOut, callback: Callback) -> _Contents:
    if isinstance(dataset, ImageFolder):
        return _inspect_folder(dataset, hold_out, callback)
    if isinstance(dataset, EncodedDataset):
        return _inspect_encoded(dataset, hold_out, callback)
    return _inspect_decoded(dataset, hold_out, callback)


def _inspect_folder(folder: ImageFolder, hold_out: HoldOut, callback: Callback) -> _Contents:
    held = ("validation",) if "train" in folder.splits else ()
    splits = tuple(split for split in SPLITS if split in (*folder.splits, *held))
    images = [image for split in splits for image in inspect_encoded(folder.encoded(split, hold_out), split, callback)]
    held_out = None if folder.has_validation else hold_out.fraction
    return _Contents(folder.class_names, splits, images, held_out, folder.skipped_files())


def _inspect_decoded(dataset: Dataset, hold_out: HoldOut, callback: Callback) -> _Contents:
    """Inspect images that are published decoded and of one size."""
    training, validation = dataset.load_train_validation(None, hold_out, ReadOptions())
    test = dataset.load("test", None, ReadOptions())
    images: list[InspectedImage] = []
    for number, (split, part) in enumerate(zip(SPLITS, (training, validation, test), strict=True), 1):
        images += inspect_images(part, split)
        callback.on_progress(Progress(number, len(SPLITS), split))
    return _Contents(training.class_names, SPLITS, images, hold_out.fraction)


def _inspect_encoded(dataset: EncodedDataset, hold_out: HoldOut, callback: Callback) -> _Contents:
    """Inspect images as they are stored, whatever their sizes; the held-out ones are the same as in a run."""
    own_validation = "validation" in dataset.splits
    training = dataset.encoded("train")
    images, class_names = inspect_encoded(training, "train", callback), training.class_names
    readable = [index for index, image in enumerate(images) if image.error is None]
    if readable and not own_validation:
        for position in hold_out.divide([images[index].label for index in readable])[1]:
            images[readable[position]] = replace(images[readable[position]], split="validation")
    for split in (split for split in SPLITS[1:] if split in dataset.splits):
        images += inspect_encoded(dataset.encoded(split), split, callback)
    splits = tuple(split for split in SPLITS if split in (*dataset.splits, "validation"))
    return _Contents(class_names, splits, images, None if own_validation else hold_out.fraction)


def _report(source: str, recipe: str | None, contents: _Contents, sizes: Sequence[tuple[int, int]]) -> DataReport:
    readable = [image for image in contents.images if image.error is None]
    groups = find_duplicates(readable)
    counts = Counter((image.label, image.split) for image in readable)
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
        splits={split: sum(image.split == split for image in readable) for split in contents.splits},
        validation_fraction=contents.validation_fraction,
        sizes=_sizes([image.size_hw for image in readable if image.size_hw is not None]),
        formats=dict(Counter(image.format for image in readable).most_common()),
        unreadable=[image.error for image in contents.images if image.error is not None],
        skipped=[str(path) for path in contents.skipped],
        skipped_extensions=count_extensions(contents.skipped),
        dark=[f"{image.name} ({image.split})" for image in readable if image.is_dark],
        duplicates=_names(groups),
        leaks=_names(_across(groups, lambda image: image.split)),
        label_conflicts=_names(_across(groups, lambda image: image.label)),
        imbalance=max(training) / min(training) if min(training) else None,
        decoded=[_decoded_size(size_hw, readable, budget) for size_hw in sizes],
    )


def _names(groups: Sequence[Sequence[InspectedImage]]) -> list[list[str]]:
    return [[f"{image.name} ({image.split})" for image in group] for group in groups]


def _across(
    groups: Sequence[Sequence[InspectedImage]], key: Callable[[InspectedImage], str | int]
) -> list[list[InspectedImage]]:
    """Return the groups whose images differ in `key`; in each, the first image of each value comes first."""
    found = []
    for group in groups:
        firsts = {key(image): image for image in reversed(group)}
        if len(firsts) > 1:
            found.append(sorted(group, key=lambda image, firsts=firsts: firsts[key(image)] is not image))
    return found


def _sizes(sizes: list[tuple[int, int]]) -> ImageSizes:
    ordered = sorted(sizes, key=lambda size_hw: (size_hw[0] * size_hw[1], size_hw))
    not_square = sum(height != width for height, width in ordered)
    return ImageSizes(ordered[0], ordered[len(ordered) // 2], ordered[-1], not_square, len(set(ordered)))


def _decoded_size(size_hw: tuple[int, int], readable: Sequence[InspectedImage], budget: int) -> DecodedSize:
    channels = 1 if readable[0].format == DECODED_GRAY else 3
    needed = channels * size_hw[0] * size_hw[1] * len(readable)
    return DecodedSize(size_hw, needed / 1e9, needed <= budget)
