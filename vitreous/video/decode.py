"""Reading a clip: its frames in the order they are shown, upright, in RGB, each with its exact time."""

from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from vitreous.video.color import ToRGB
from vitreous.video.frames import BrokenDataError, moments
from vitreous.video.info import Frame, in_frames, nothing_decodes, opened
from vitreous.video.options import WHOLE, VideoOptions
from vitreous.video.orientation import display_matrix, is_sideways, upright
from vitreous.video.trim import Moment, Told, excerpted, nothing_there


class ClipBrokeOff(Exception):  # noqa: N818 - it is no error of ours: what came before is good
    """A clip can't be read to its end: `frames` good ones came out, the last of them at `time_seconds`."""

    def __init__(self, frames: int, reason: str, time_seconds: Fraction) -> None:
        super().__init__(frames, reason, time_seconds)
        self.frames = frames
        self.reason = reason
        self.time_seconds = time_seconds

    def __str__(self) -> str:
        return f"the clip breaks off after {in_frames(self.frames)}, at {float(self.time_seconds):.2f} s: {self.reason}"


def read_frames(path: Path | str, options: VideoOptions = WHOLE, told: Told | None = None) -> Generator[Frame]:
    """Yield the frames of a clip in the order they are shown; the file is closed when the iterator is.

    Time zero is where image or sound starts, whichever is first; with a `start`, it is the first frame there. A frame
    without a time stamp follows the one before by its duration; one that does not come after the one before is moved to
    one tick after it. `told` receives what else there is to say.

    Raises:
        ClipBrokeOff: after the last good frame, where the rest can't be read.
        InputError: this is no video, not one frame of it can be decoded, or none is where `options` ask for it.
    """
    told = Told() if told is None else told
    with opened(path) as (container, stream):
        watched = Watched(moments(container, stream, options.start_seconds))
        frames, frame = 0, None
        try:
            for frame in converted(excerpted(watched, options, told), options, told):
                frames += 1
                yield frame
        except BrokenDataError as error:
            if watched.last is None:
                raise nothing_decodes(path, str(error)) from error
            if frame is None:
                raise nothing_there(path, options, watched.last) from error
            raise ClipBrokeOff(frames, str(error), frame.time_seconds) from error
        if watched.last is None:
            raise nothing_decodes(path, "it holds none")
        if frame is None:
            raise nothing_there(path, options, watched.last)


class Watched:
    """Moments as they come, the last of which is remembered."""

    def __init__(self, source: Iterable[Moment]) -> None:
        self.source = source
        self.last: Moment | None = None

    def __iter__(self) -> Iterator[Moment]:
        for moment in self.source:
            self.last = moment
            yield moment


def converted(chosen: Iterable[Moment], options: VideoOptions, told: Told) -> Iterator[Frame]:
    """The chosen images as RGB, upright and of the output's size."""
    to_rgb, matrix = None, None
    for moment in chosen:
        if to_rgb is None or matrix is None:
            to_rgb, matrix = (
                ToRGB(moment.image, stored_hw(moment.image, options), told),
                display_matrix(moment.image),
            )
        yield Frame(upright(to_rgb(moment.image), matrix), moment.time_seconds, moment.duration_seconds)


def stored_hw(first: av.VideoFrame, options: VideoOptions) -> tuple[int, int]:
    """The (height, width) that images like `first` get before they are turned upright."""
    if not is_sideways(first):
        return options.size_of((first.height, first.width))
    height, width = options.size_of((first.width, first.height))
    return width, height
