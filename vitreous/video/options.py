"""Which part of a clip is written, how large, and as what."""

from dataclasses import dataclass
from fractions import Fraction

from vitreous.errors import InputError

LARGEST_SIDE = 16384  # pixels; what H.264 and VP9 take


@dataclass(frozen=True)
class VideoOptions:
    """What `transform_video` changes about a clip beside its images; by default nothing.

    `start` and `end` are in seconds of the source: the first frame at or after `start` becomes time zero, and
    everything ends at `end`. Of these frames each `every`-th is kept, and shown until the next one. `size` is the
    output's height, to which the width follows, or its (height, width). `quality` is the crf of the encoder; lower is
    better. `format` names one of FORMATS ("webm", "png") where the target's name has no suffix.

    Raises:
        InputError: a value that no clip can have.
    """

    start: float | Fraction = 0
    end: float | Fraction | None = None
    every: int = 1
    size: int | tuple[int, int] | None = None
    quality: int | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < float("inf"):
            raise InputError(f"start {self.start} s is no time of a clip: give 0 or more")
        if self.end is not None and not self.start < self.end < float("inf"):
            raise InputError(f"end {self.end} s is not after start {self.start} s")
        if self.every < 1:
            raise InputError(f"every {self.every} keeps no frame: give 1 or more")
        sides = self.size if isinstance(self.size, tuple) else (self.size or 1, 1)
        if self.size == 0 or len(sides) != 2 or not all(1 <= side <= LARGEST_SIDE for side in sides):
            raise InputError(f"size {self.size} is no height or (height, width) from 1 to {LARGEST_SIDE} pixels")

    @property
    def start_seconds(self) -> Fraction:
        """The start as it is written: 0.1 is a tenth, not the float next to it."""
        return Fraction(str(self.start))

    @property
    def end_seconds(self) -> Fraction | None:
        """The end as it is written."""
        return None if self.end is None else Fraction(str(self.end))

    def size_of(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) of the output of a clip of `source_hw`; a width that follows is even.

        >>> VideoOptions(size=360).size_of((720, 1280)), VideoOptions().size_of((241, 321))
        ((360, 640), (241, 321))
        """
        if self.size is None or isinstance(self.size, tuple):
            return self.size or source_hw
        height, width = source_hw
        return self.size, max(2, 2 * round(Fraction(width * self.size, 2 * height)))


WHOLE = VideoOptions()
"""Every frame of a clip, as it is."""
