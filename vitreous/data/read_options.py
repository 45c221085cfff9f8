"""How encoded images become a tensor: made to which shape, and what becomes of those that can't be read."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing

OneSize = Literal["stretch", "crop"]
NAMED = 3  # of the images that can't be read, how many the error names
LISTED = 20  # and how many are listed where they are skipped


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        resize: how an image is brought to the size asked for: "stretch" squashes all of it, "crop" fits the shorter
            side and cuts out the center. As in `Preprocessing`.
        skip_unreadable: leave out images that can't be read, and list them, in place of refusing.
        note: told what happens, a line at a time; standard error by default.
        part: of the data set, as messages name it: "training"; empty for images that are all there are.
    """

    resize: OneSize = "stretch"
    skip_unreadable: bool = False
    note: Callable[[str], object] = lambda text: sys.stderr.write(f"{text}\n")
    part: str = ""

    def of(self, part: str) -> "Reading":
        """The same for a part of a data set: "train", "validation" or "test"."""
        return replace(self, part="training" if part == "train" else part)

    def accept(self, unreadable: Sequence[str], count: int) -> None:
        """Refuse or list the images, of `count`, that can't be read; a line each.

        Raises:
            InputError: there are some and they are not to be skipped, or there are no others.
        """
        if not unreadable:
            return
        images = f"{count} {self.part} images" if self.part else f"{count} images"
        if not self.skip_unreadable or len(unreadable) == count:
            remedy = "mend or remove them (`vitreous data` names all), or leave them out by --skip-unreadable"
            remedy = remedy if len(unreadable) < count else "there is nothing to learn from"
            raise InputError(f"{len(unreadable)} of {images} can't be used: {listed(unreadable, NAMED)}: {remedy}")
        self.note(f"{len(unreadable)} of {images} can't be read and are skipped:")
        for line in unreadable[:LISTED]:
            self.note(f"  {line}")
        if len(unreadable) > LISTED:
            self.note(f"  and {len(unreadable) - LISTED} more")


def reading_for(preprocessing: Preprocessing, *, skip_unreadable: bool = False) -> Reading:
    """How images of one size are read for a model; "aspect", which gives many sizes, becomes "stretch"."""
    return Reading("crop" if preprocessing.resize == "crop" else "stretch", skip_unreadable)


def listed(lines: Sequence[str], most: int) -> str:
    """The first lines on one, and how many more there are."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return f"{'; '.join(lines[:most])}{more}"
