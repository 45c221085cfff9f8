"""Which part of a video is written, at what size, and in which format."""

from dataclasses import dataclass
from fractions import Fraction

from vitreous.errors import InputError

MAX_SIDE = 16384  # pixels; what H.264 and VP9 take


@dataclass(frozen=True)
class VideoOptions:
    """What `transform_video` changes about a video besides its images; nothing by default.

    Attributes:
        start: in seconds of the source; the first frame at or after it becomes time zero.
        end: in seconds of the source; everything ends there.
        every: keep one of this many frames, and show it until the next one that is kept.
        size: the output's height, to which the width follows, or its (height, width), in pixels.
        quality: the crf of the encoder; lower is better.
        format: a key of FORMATS without its dot ("webm", "png"), for outputs whose name has no suffix.

    Raises:
        InputError: a value is out of range.
    """

    start: float | Fraction = 0
    end: float | Fraction | None = None
    every: int = 1
    size: int | tuple[int, int] | None = None
    quality: int | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < float("inf"):
            raise InputError(f"start {self.start} s is invalid: give 0 or more seconds")
        if self.end is not None and not self.start < self.end < float("inf"):
            raise InputError(f"end {self.end} s is not after start {self.start} s")
        if self.every < 1:
            raise InputError(f"every {self.every} keeps no frame: give 1 or more")
        sides = self.size if isinstance(self.size, tuple) else (self.size or 1, 1)
        if self.size == 0 or len(sides) != 2 or not all(1 <= side <= MAX_SIDE for side in sides):
            raise InputError(
                f"size {self.size} is invalid: give a height or (height, width) from 1 to {MAX_SIDE} pixels"
            )

    @property
    def start_seconds(self) -> Fraction:
        """The start as it was written: 0.1 is a tenth, not the nearest float."""
        return Fraction(str(self.start))

    @property
    def end_seconds(self) -> Fraction | None:
        """The end as it was written."""
        return None if self.end is None else Fraction(str(self.end))

    def output_size(self, source_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) of the output for a source of `source_hw`; a width that follows is even.

        >>> VideoOptions(size=360).output_size((720, 1280)), VideoOptions().output_size((241, 321))
        ((360, 640), (241, 321))
        """
        if self.size is None or isinstance(self.size, tuple):
            return self.size or source_hw
        height, width = source_hw
        return self.size, max(2, 2 * round(Fraction(width * self.size, 2 * height)))


KEEP_ALL = VideoOptions()
"""Every frame of a video, unchanged."""
