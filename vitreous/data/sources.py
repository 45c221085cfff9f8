"""The table of all datasets that can be named, and the functions that load a split of one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from vitreous.data.cifar import load_cifar
from vitreous.data.dataset import Dataset
from vitreous.data.folder import open_image_folder
from vitreous.data.hub_dataset import open_hub_dataset, open_parquet_folder
from vitreous.data.image_set import ImageSet
from vitreous.data.mnist import load_mnist
from vitreous.data.read_options import ReadOptions
from vitreous.data.shapes import draw_shapes
from vitreous.data.splits import SPLITS, HoldOut
from vitreous.errors import InputError, unknown
from vitreous.imaging.preprocessing import resize_images

ImageSize = tuple[int, int] | None
SHAPES_COUNTS_AND_SEEDS = {"train": (10_000, 1), "test": (2_000, 2)}
SHAPES_SIZE = 64
DEFAULT_FRACTION = 0.05
"""Of the training images, held out to validate on."""
RESIZE_CHUNK = 1024


@dataclass(frozen=True)
class PublishedImages(Dataset):
    """A dataset that is published decoded, all images of one size; `read` loads a split of it."""

    read: Callable[[str], ImageSet]

    def load(self, split: str, image_size: ImageSize, options: ReadOptions) -> ImageSet:
        """Load a split, resized if a size is given."""
        return resize_image_set(self.read(split), image_size, options)


class DrawnShapes(Dataset):
    """Shapes that are drawn at the size that is wanted, so that their boxes and masks are exact."""

    def load(self, split: str, image_size: ImageSize, options: ReadOptions) -> ImageSet:
        """Draw a split."""
        height, width = image_size or (SHAPES_SIZE, SHAPES_SIZE)
        if height != width:
            raise InputError(f"shapes are square, they can't be {height} x {width}: choose equal height and width")
        count, seed = SHAPES_COUNTS_AND_SEEDS[split]
        return draw_shapes(count, seed, height)


@dataclass(frozen=True)
class Source:
    """A kind of dataset.

    Attributes:
        description: one line for lists.
        open: finds the dataset at a location, the text behind the colon; sources without a colon ignore it.
    """

    description: str
    open: Callable[[Path], Dataset]


SOURCES = {
    "cifar10": Source(
        "60,000 color images of 10 classes, 32 x 32", lambda _: PublishedImages(partial(load_cifar, "cifar10"))
    ),
    "cifar100": Source(
        "60,000 color images of 100 classes, 32 x 32", lambda _: PublishedImages(partial(load_cifar, "cifar100"))
    ),
    "mnist": Source("70,000 handwritten digits, one channel, 28 x 28", lambda _: PublishedImages(load_mnist)),
    "shapes": Source("12,000 drawn shapes with boxes and masks, drawn on the fly", lambda _: DrawnShapes()),
    "folder:DIR": Source("your own images, one folder per class", open_image_folder),
    "parquet:DIR": Source("train*.parquet and test*.parquet, as on the Hugging Face hub", open_parquet_folder),
    "hf:OWNER/NAME": Source("labeled images of the Hugging Face hub; with :CONFIG, or hf:./FOLDER", open_hub_dataset),
}


def load_images(
    source: str,
    split: str,
    image_size: ImageSize = None,
    hold_out: HoldOut | float = DEFAULT_FRACTION,
    options: ReadOptions | None = None,
) -> ImageSet:
    """Load a split of a dataset.

    Args:
        source: one of `SOURCES`, such as "cifar10" or "folder:photos".
        split: "train", "validation", "test" or "train+validation".
        image_size: (height, width) in pixels that images are resized to; without it they keep their size.
        hold_out: which training images are the validation split, if the dataset has none; or only what fraction of
            them. It doesn't depend on the seed of a run.
        options: how images are resized (squashed by default), and whether unreadable ones are skipped.

    Returns:
        The images, uint8 (count, channels, *image_size), and their labels.

    Raises:
        InputError: there is no such source or split, or its data can't be found, downloaded or read.

    >>> load_images("shapes", "test", (32, 32))
    ImageSet(2,000 images of 3 × 32 × 32, 8 classes)
    """
    dataset = open_dataset(source)
    if split not in SPLITS:
        raise unknown("split", split, dict.fromkeys([*dataset.splits, "validation"]))  # one is held out if need be
    if split == "test" or (split in dataset.splits and "train" not in dataset.splits):
        return dataset.load(split, image_size, options or ReadOptions())
    hold_out = _as_hold_out(hold_out)
    training, validation = dataset.load_train_validation(image_size, hold_out, options or ReadOptions())
    if split == "train+validation":
        return _concatenate(training, validation)
    if split == "validation" and len(validation) == 0:
        raise InputError(f"validation_fraction {hold_out.fraction} leaves no validation images: raise it")
    return training if split == "train" else validation


def load_train_validation(
    source: str,
    image_size: ImageSize = None,
    hold_out: HoldOut | float = DEFAULT_FRACTION,
    options: ReadOptions | None = None,
) -> tuple[ImageSet, ImageSet]:
    """Load the training and the validation images of a dataset, read once; there may be no validation images.

    Raises:
        InputError: as `load_images`.
    """
    return open_dataset(source).load_train_validation(image_size, _as_hold_out(hold_out), options or ReadOptions())


def _as_hold_out(given: HoldOut | float) -> HoldOut:
    return given if isinstance(given, HoldOut) else HoldOut(given)


def evaluation_split(source: str, split: str, on_note: Callable[[str], object]) -> str:
    """Return the split to evaluate on: "validation" in place of "test" if a dataset has validation images but no test.

    Many datasets are published like this, ImageNet among them. `on_note` is told of it.

    Raises:
        InputError: there is no such source, or its data can't be found.
    """
    splits = open_dataset(source).splits if split == "test" else ()
    if "test" in splits or "validation" not in splits:
        return split
    on_note(f"{source} has no test images: it is evaluated on its validation images")
    return "validation"


def open_dataset(source: str) -> Dataset:
    """Find the dataset that a source names, without decoding its images.

    Raises:
        InputError: there is no such source, or its data can't be found.
    """
    name, location = parse_source(source)
    return SOURCES[name].open(location)


def parse_source(source: str) -> tuple[str, Path]:
    """Return a source's name in SOURCES, and its location (the current folder if it has none).

    Of "hf:" sources, the location is absolute for a local folder and relative for OWNER/NAME.

    Raises:
        InputError: there is no such source.

    >>> parse_source("folder:photos")
    ('folder:DIR', PosixPath('photos'))
    """
    name, colon, text = source.partition(":")
    key = next((key for key in SOURCES if key.startswith(f"{name}:")), name)
    if key not in SOURCES or (colon and ":" not in key):
        if source and Path(source).expanduser().is_dir():
            raise InputError(
                f"'{source}' is a folder: write folder:{source} for images, parquet:{source} for Parquet files"
            )
        raise unknown("source", source, SOURCES)
    if ":" in key and not text:
        raise InputError(f"the source '{source}' names no {'dataset' if name == 'hf' else 'folder'}: write {key}")
    location = Path(text).expanduser()
    return key, location.absolute() if name == "hf" and text.startswith((".", "/", "~")) else location


def absolute_source(source: str) -> str:
    """Return a source with the path of its folder, if it has one, made absolute, so that it is valid anywhere.

    Raises:
        InputError: there is no such source.
    """
    name, location = parse_source(source)
    if name.endswith(":DIR") or location.is_absolute():
        return f"{name.partition(':')[0]}:{location.resolve()}"
    return source


def _concatenate(first: ImageSet, second: ImageSet) -> ImageSet:
    """Return the images of two splits of one dataset, one split after the other."""
    assert first.class_names == second.class_names, (first.class_names, second.class_names)
    if first.images_u8.shape[1:] != second.images_u8.shape[1:]:
        sizes = " and ".join(str(tuple(images.images_u8.shape[2:])) for images in (first, second))
        raise InputError(f"training and validation images differ in size, {sizes} pixels: give one size for all")
    parts = {
        name: torch.cat([one, other])
        for name in ("images_u8", "labels", "boxes", "masks")
        if (one := getattr(first, name)) is not None and (other := getattr(second, name)) is not None
    }
    return replace(first, **parts)


def resize_image_set(images: ImageSet, image_size: ImageSize, options: ReadOptions) -> ImageSet:
    """Resize images to (height, width), as `preprocess_image` does."""
    count, channels, *own_size = images.images_u8.shape
    if image_size is None or (tuple(own_size) == image_size and options.crop_pct == 1):
        return images
    assert images.boxes is None and images.masks is None, "sources with boxes or masks make them at the size wanted"
    images_u8 = torch.empty((count, channels, *image_size), dtype=torch.uint8)
    for start in range(0, count, RESIZE_CHUNK):
        chunk = slice(start, start + RESIZE_CHUNK)
        images_u8[chunk] = resize_images(images.images_u8[chunk], image_size, *options.resizing)
    return replace(images, images_u8=images_u8)
