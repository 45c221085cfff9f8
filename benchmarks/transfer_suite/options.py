"""What all parts of the benchmark take, and the images of flowers5, which have no splits, as folders with splits."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitreous.callbacks import Callback
from vitreous.data.folder import open_image_folder
from vitreous.data.splits import in_test_split
from vitreous.downloads import cache_dir
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
        images: a folder with one folder per class.
        weights: the pretrained model.
        input_size: its input size in pixels; None for its own.
        minutes: wall time of a training run on idle cores.
        seeds: number of training runs.
        precision: of the steps that are timed, "fp32" or "bf16".
    """

    images: Path
    weights: str
    input_size: int | None
    minutes: float
    seeds: int
    precision: str = "fp32"

    def load(self) -> ImageClassifier:
        """Load the pretrained model."""
        return load(self.weights, input_size=self.input_size)


class PrintedNotes(Callback):
    """Prints notes."""

    def on_note(self, text: str) -> None:
        """Print a note."""
        print(text)


def split_by_hash(images: Path) -> Path:
    """Return a folder of links, train/CLASS and test/CLASS, to images that have no split."""
    folder = cache_dir() / "benchmarks" / f"{images.name}-{TEST_FRACTION}"
    if folder.is_dir():
        return folder
    dataset = open_image_folder(images)
    for file in dataset.list_images("train"):
        split = "test" if in_test_split(file.path.read_bytes(), TEST_FRACTION) else "train"
        link_image(file.path, folder / split / dataset.class_names[file.label])
    return folder


def draw_images(images: Path, classes: Sequence[str], count: int, seed: int) -> Path:
    """Return a folder of links to `count` training images of each of some classes, drawn at random, and to all their
    test images."""
    folder = cache_dir() / "benchmarks" / f"{images.name}-{TEST_FRACTION}-{'-'.join(classes)}-{count}-{seed}"
    if folder.is_dir():
        return folder
    whole = split_by_hash(images)
    for name in classes:
        files = sorted((whole / "train" / name).iterdir())
        for file in random.Random(f"{name} {seed}").sample(files, count):
            link_image(file, folder / "train" / name)
        for file in (whole / "test" / name).iterdir():
            link_image(file, folder / "test" / name)
    return folder


def link_image(path: Path, folder: Path) -> None:
    """Link an image into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / path.name).symlink_to(path.resolve())
