"""Every data set that can be asked for by name, and the one function that loads a split of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from vitreous.data.cifar import load_cifar
from vitreous.data.decoding import EncodedImages
from vitreous.data.folder import load_folder, load_training_folder
from vitreous.data.hub import encoded_hub, hub_parts, load_hub
from vitreous.data.image_set import ImageSet
from vitreous.data.mnist import load_mnist
from vitreous.data.parquet import encoded_parquet, load_parquet, parquet_parts
from vitreous.data.read_options import ReadOptions
from vitreous.data.shapes.dataset import draw_shapes
from vitreous.data.splits import SPLITS, hold_out
from vitreous.errors import InputError, unknown
from vitreous.imaging.preprocessing import crop_box

SizeHW = tuple[int, int] | None
SHAPES_COUNTS_AND_SEEDS = {"train": (10_000, 1), "test": (2_000, 2)}
SHAPES_SIZE = 64
DEFAULT_FRACTION = 0.05  # of the training images, held out to validate on
RESIZED_AT_ONCE = 1024


@dataclass(frozen=True)
class Source:
    """A data set: `load(part, folder, size_hw, reading)` gives its "train", "test" or own "validation" part.

    Attributes:
        description: one line for listings.
        load: the folder is what stands after the colon, for names that have one.
        parts: those that the folder brings; where "validation" is none of them, it is held out of "train".
        load_training: `(folder, size_hw, reading, fraction)` gives training and validation images at once, where
            they can be left on the disk.
        encoded: `(part, folder)` gives the images of a part as they are stored, where these may differ in size.
    """

    description: str
    load: Callable[[str, Path, SizeHW, ReadOptions], ImageSet]
    splits: Callable[[Path], Sequence[str]] = lambda folder: ("train", "test")
    load_training: Callable[[Path, SizeHW, ReadOptions, float], tuple[ImageSet, ImageSet]] | None = None
    encoded: Callable[[str, Path], EncodedImages] | None = None


SOURCES = {
    "cifar10": Source(
        "60,000 color images of 10 classes, 32 x 32",
        lambda part, _, size_hw, reading: resized(load_cifar("cifar10", part), size_hw, reading),
    ),
    "cifar100": Source(
        "60,000 color images of 100 classes, 32 x 32",
        lambda part, _, size_hw, reading: resized(load_cifar("cifar100", part), size_hw, reading),
    ),
    "mnist": Source(
        "70,000 handwritten digits, one channel, 28 x 28",
        lambda part, _, size_hw, reading: resized(load_mnist(part), size_hw, reading),
    ),
    "shapes": Source(
        "12,000 drawn shapes whose place is known; made on the spot",
        lambda part, _, size_hw, reading: drawn_shapes(part, size_hw),
    ),
    "folder:DIR": Source(
        "your own images, one folder a class",
        lambda part, folder, size_hw, reading: load_folder(folder, part, size_hw, reading),
        load_training=load_training_folder,
    ),
    "parquet:DIR": Source(
        "a data set as train*.parquet and test*.parquet, as the Hugging Face hub has them",
        lambda part, folder, size_hw, reading: load_parquet(folder, part, size_hw, reading),
        parquet_parts,
        encoded=encoded_parquet,
    ),
    "hf:OWNER/NAME": Source(
        "images with labels from the Hugging Face hub, :CONFIGURATION if there are several; or hf:./FOLDER",
        load_hub,
        hub_parts,
        encoded=encoded_hub,
    ),
}


def load_images(
    source: str,
    split: str,
    image_size: SizeHW = None,
    validation_fraction: float = DEFAULT_FRACTION,
    options: ReadOptions | None = None,
) -> ImageSet:
    """Load "train", "validation", "test" or "train+validation" of a source: uint8 (count, channels, *size_hw).

    The validation split is what the source brings as such, or else `validation_fraction` of its training part, chosen
    once and for all, whatever the seed of a run. The test part is read for "test" only. With `image_size` (height, width)
    images are brought to it as `options` says (stretched by default, so that nothing of them is lost); without it
    they keep the size they have.

    Raises:
        InputError: there is no such source or split, or its data can't be found, downloaded or read.
    """
    name, folder = parse_source(source)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if split == "test":
        return SOURCES[name].load("test", folder, image_size, options or ReadOptions())
    training, validation = load_train_validation(source, image_size, validation_fraction, options)
    if split == "train+validation":
        return joined(training, validation)
    if split == "validation" and len(validation) == 0:
        raise InputError(f"validation_fraction {validation_fraction} leaves no validation images: raise it")
    return training if split == "train" else validation


def load_train_validation(
    source: str,
    image_size: SizeHW = None,
    validation_fraction: float = DEFAULT_FRACTION,
    options: ReadOptions | None = None,
) -> tuple[ImageSet, ImageSet]:
    """The "train" and the "validation" images of a source, read once; the latter may be none."""
    (name, folder), options = parse_source(source), options or ReadOptions()
    chosen = SOURCES[name]
    if chosen.load_training is not None:
        return chosen.load_training(folder, image_size, options, validation_fraction)
    training = chosen.load("train", folder, image_size, options)
    if "validation" in chosen.splits(folder):
        return training, chosen.load("validation", folder, image_size, options)
    kept, held = hold_out(len(training), validation_fraction)
    return training.select(kept), training.select(held)


def parse_source(source: str) -> tuple[str, Path]:
    """A source's name in SOURCES and the folder that it names (the current one where it takes none).

    Of the hub's sources the path of a local folder is absolute, OWNER/NAME is not.
    """
    name, colon, folder = source.partition(":")
    key = next((key for key in SOURCES if key.startswith(f"{name}:")), name)
    if key not in SOURCES or (colon and ":" not in key):
        if source and Path(source).expanduser().is_dir():
            raise InputError(
                f"'{source}' is a folder: write folder:{source} for images, parquet:{source} for Parquet files"
            )
        raise unknown("source", source, SOURCES)
    if ":" in key and not folder:
        what = "data set: write" if name == "hf" else "folder: write"
        raise InputError(f"the source '{source}' names no {what} {key}")
    path = Path(folder).expanduser()
    return key, path.absolute() if name == "hf" and folder.startswith((".", "/", "~")) else path


def absolute_source(source: str) -> str:
    """A source whose folder, if it names one, is written out in full, so that it is found from anywhere.

    Raises:
        InputError: there is no such source.
    """
    name, folder = parse_source(source)
    if name.endswith(":DIR") or folder.is_absolute():
        return f"{name.partition(':')[0]}:{folder.resolve()}"
    return source


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    """Two parts of one data set, one after the other."""
    assert first.class_names == second.class_names, (first.class_names, second.class_names)
    if first.images_u8.shape[1:] != second.images_u8.shape[1:]:
        sizes = " and ".join(str(tuple(part.images_u8.shape[2:])) for part in (first, second))
        raise InputError(f"training and validation images differ in size, {sizes} pixels: name one size")
    images_u8 = torch.cat([first.images_u8, second.images_u8])
    return ImageSet(images_u8, torch.cat([first.labels, second.labels]), first.class_names)


def resized(images: ImageSet, size_hw: SizeHW, reading: ReadOptions) -> ImageSet:
    """Bring images to (height, width), by antialiased bilinear interpolation."""
    count, channels, height, width = images.images_u8.shape
    if size_hw is None or (height, width) == size_hw:
        return images
    top, left, bottom, right = map(int, crop_box((height, width), size_hw, reading.resize_mode))
    images_u8 = torch.empty((count, channels, *size_hw), dtype=torch.uint8)
    for start in range(0, count, RESIZED_AT_ONCE):
        part = slice(start, start + RESIZED_AT_ONCE)
        seen = images.images_u8[part, :, top:bottom, left:right]
        images_u8[part] = interpolate(seen, size_hw, mode="bilinear", antialias=True)
    return replace(images, images_u8=images_u8)


def drawn_shapes(part: str, size_hw: SizeHW) -> ImageSet:
    """Shapes drawn at the wanted size, so that their boxes and masks are exact."""
    height, width = size_hw or (SHAPES_SIZE, SHAPES_SIZE)
    if height != width:
        raise InputError(f"shapes are square, they can't be {height} x {width}: choose equal height and width")
    count, seed = SHAPES_COUNTS_AND_SEEDS[part]
    return draw_shapes(count, seed, height)
