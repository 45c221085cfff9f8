"""How encoded images become a tensor: made to which shape, and what becomes of those that can't be read."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing

FixedSizeMode = Literal["squash", "crop"]
NAMED = 3  # of the images that can't be read, how many the error names
LISTED = 20  # and how many are listed where they are skipped


@dataclass(frozen=True)
class ReadOptions:
    """How images are read.

    Attributes:
        resize: how an image is brought to the size asked for: "squash" squashes all of it, "crop" fits the shorter
            side and cuts out the center. As in `Preprocessing`.
        skip_unreadable: leave out images that can't be read, and list them, in place of refusing.
        note: told what happens, a line at a time; standard error by default.
        part: of the data set, as messages name it: "training"; empty for images that are all there are.
    """

    resize_mode: FixedSizeMode = "squash"
    skip_unreadable: bool = False
    on_note: Callable[[str], object] = lambda text: sys.stderr.write(f"{text}\n")
    split: str = ""

    def for_split(self, part: str) -> "ReadOptions":
        """The same for a part of a data set: "train", "validation" or "test"."""
        return replace(self, split="training" if part == "train" else part)

    def check_unreadable(self, unreadable: Sequence[str], count: int) -> None:
        """Refuse or list the images, of `count`, that can't be read; a line each.

        Raises:
            InputError: there are some and they are not to be skipped, or there are no others.
        """
        if not unreadable:
            return
        images = f"{count} {self.split} images" if self.split else f"{count} images"
        if not self.skip_unreadable or len(unreadable) == count:
            remedy = "mend or remove them (`vitreous data` names all), or leave them out by --skip-unreadable"
            remedy = remedy if len(unreadable) < count else "there is nothing to learn from"
            raise InputError(f"{len(unreadable)} of {images} can't be used: {listed(unreadable, NAMED)}: {remedy}")
        self.on_note(f"{len(unreadable)} of {images} can't be read and are skipped:")
        for line in unreadable[:LISTED]:
            self.on_note(f"  {line}")
        if len(unreadable) > LISTED:
            self.on_note(f"  and {len(unreadable) - LISTED} more")


def read_options_for(preprocessing: Preprocessing, *, skip_unreadable: bool = False) -> ReadOptions:
    """How images of one size are read for a model; "aspect", which gives many sizes, becomes "squash"."""
    return ReadOptions("crop" if preprocessing.resize_mode == "crop" else "squash", skip_unreadable)


def listed(lines: Sequence[str], most: int) -> str:
    """The first lines on one, and how many more there are."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return f"{'; '.join(lines[:most])}{more}"
