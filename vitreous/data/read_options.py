"""How encoded images are read: how they are resized, and what happens to unreadable ones."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import FixedSizeMode, Interpolation, Preprocessing

MAX_IN_ERROR = 3
"""Unreadable images that an error names."""
MAX_IN_NOTES = 20
"""Unreadable images that are listed when they are skipped."""


@dataclass(frozen=True)
class ReadOptions:
    """How images are read.

    Attributes:
        resize_mode: "squash" resizes the whole image to the size wanted, whatever its shape. "crop" resizes the shorter
            side and crops the center. As in `Preprocessing`, like the next two.
        crop_pct: the fraction of the height and width that is kept, around the center.
        interpolation: "bicubic" or "bilinear".
        skip_unreadable: leave out images that can't be read, and list them, instead of refusing the dataset.
        on_note: called with each line that the user should read; by default it goes to standard error.
        split: the split's name in messages, such as "training"; empty if there are no others.
    """

    resize_mode: FixedSizeMode = "squash"
    skip_unreadable: bool = False
    crop_pct: float = 1.0
    interpolation: Interpolation = "bicubic"
    on_note: Callable[[str], object] = lambda text: sys.stderr.write(f"{text}\n")
    split: str = ""

    @property
    def resizing(self) -> tuple[FixedSizeMode, float, Interpolation]:
        """What decides the pixels of a resized image: the mode, the fraction that is kept, the interpolation."""
        return self.resize_mode, self.crop_pct, self.interpolation

    def for_split(self, split: str) -> "ReadOptions":
        """Return the same options for a split of a dataset: "train", "validation" or "test"."""
        return replace(self, split="training" if split == "train" else split)

    def check_unreadable(self, unreadable: Sequence[str], count: int) -> None:
        """Refuse the unreadable images of a split, or list them.

        Args:
            unreadable: a line on each image that can't be read.
            count: the number of all images.

        Raises:
            InputError: there are unreadable images and they are not to be skipped, or there are no others.
        """
        if not unreadable:
            return
        images = f"{count} {self.split} images" if self.split else f"{count} images"
        if not self.skip_unreadable or len(unreadable) == count:
            remedy = "repair or remove them (`vitreous data` lists all), or skip them with --skip-unreadable"
            remedy = remedy if len(unreadable) < count else "there are no others"
            raise InputError(f"{len(unreadable)} of {images} can't be used: {_first(unreadable)}: {remedy}")
        note_unreadable(unreadable, images, self.on_note)


def note_unreadable(unreadable: Sequence[str], images: str, on_note: Callable[[str], object]) -> None:
    """List the images that are skipped, a line each.

    Args:
        unreadable: a line on each image that can't be read.
        images: among which they are, such as "40 test images".
        on_note: receives the lines.
    """
    on_note(f"{len(unreadable):,} of {images} can't be read and are skipped:")
    for line in unreadable[:MAX_IN_NOTES]:
        on_note(f"  {line}")
    if len(unreadable) > MAX_IN_NOTES:
        on_note(f"  and {len(unreadable) - MAX_IN_NOTES:,} more")


def read_options_for(preprocessing: Preprocessing, *, skip_unreadable: bool = False) -> ReadOptions:
    """Return how images of one size are read for a model: to the pixels that it predicts from.

    "aspect" and "letterbox" give no single size, so images are squashed for them.
    """
    mode = "crop" if preprocessing.resize_mode == "crop" else "squash"
    return ReadOptions(mode, skip_unreadable, preprocessing.crop_pct, preprocessing.interpolation)


def _first(lines: Sequence[str]) -> str:
    """Return the first lines as one, and how many more there are."""
    more = f"; and {len(lines) - MAX_IN_ERROR} more" if len(lines) > MAX_IN_ERROR else ""
    return f"{'; '.join(lines[:MAX_IN_ERROR])}{more}"
