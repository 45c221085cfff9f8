"""Reading a clip: its frames in the order they are shown, upright, in RGB, each with its exact time."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av

from vitreous.video.color import ToRGB
from vitreous.video.info import (
    MICROSECOND,
    Frame,
    average_rate,
    nothing_decodes,
    opened,
    packets,
    start_seconds,
    tick_seconds,
)
from vitreous.video.orientation import display_matrix, upright

# Only Matroska ends a cut file as if it were whole; how much of its stated duration may be missing from a sound one.
DURATION_TOLERANCE_SECONDS = Fraction(1, 2)


class ClipBrokeOff(Exception):  # noqa: N818 - it is no error of ours: what came before is good
    """A clip can't be read to its end: `frames` good ones came out, the last of them at `time_seconds`."""

    def __init__(self, frames: int, reason: str, time_seconds: Fraction) -> None:
        super().__init__(frames, reason, time_seconds)
        self.frames = frames
        self.reason = reason
        self.time_seconds = time_seconds

    def __str__(self) -> str:
        return f"the clip breaks off after {self.frames} frames, at {float(self.time_seconds):.2f} s: {self.reason}"


def read_frames(path: Path | str) -> Generator[Frame]:
    """Yield the frames of a clip in the order they are shown; the file is closed when the iterator is.

    Time zero is where picture or sound starts, whichever is first. A frame without a time stamp follows the one before
    by its duration; one that does not come after the one before is moved to one tick after it.

    Raises:
        ClipBrokeOff: after the last good frame, where the rest can't be read.
        InputError: this is no video, or not one frame of it can be decoded.
    """
    with opened(path) as (container, stream):
        times = FrameTimes(container, stream)
        frames, frame, to_rgb, matrix = 0, None, None, None
        try:
            for picture in pictures(container, stream):
                to_rgb, matrix = to_rgb or ToRGB(picture), matrix or display_matrix(picture)
                time_seconds, duration_seconds = times.next(picture)
                frame = Frame(upright(to_rgb(picture), matrix), time_seconds, duration_seconds)
                frames += 1
                yield frame
        except BrokenDataError as error:
            if frame is None:
                raise nothing_decodes(path, str(error)) from error
            raise ClipBrokeOff(frames, str(error), frame.time_seconds) from error
        if frame is None:
            raise nothing_decodes(path, "it holds none")


class BrokenDataError(Exception):
    """The bytes of a clip can't be read or decoded any further; says why."""


def pictures(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decode the pictures of a stream in the order they are shown.

    Pictures that are still inside the decoder when it fails are not trusted, and not given out.

    Raises:
        BrokenDataError: the data are damaged, or end long before the header's duration.
    """
    end = Fraction(0)
    try:
        for packet in packets(container, *container.streams):
            end = max(end, end_seconds(packet))
            if packet.stream.index == stream.index:
                yield from stream.decode(packet)
    except av.error.FFmpegError as error:
        raise BrokenDataError((error.strerror or str(error)).lower()) from error
    stated = (container.duration or 0) * MICROSECOND
    if "matroska" in container.format.name and end + DURATION_TOLERANCE_SECONDS < stated:
        raise BrokenDataError(f"the file ends at {float(end):.2f} s of {float(stated):.2f} s")


def end_seconds(packet: av.Packet) -> Fraction:
    """When what a packet holds has been shown or heard, in seconds of the file."""
    return ((packet.pts or 0) + (packet.duration or 0)) * Fraction(packet.time_base or 0)


class FrameTimes:
    """Gives each decoded picture its time and duration in seconds, exact and strictly rising."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self.tick = tick_seconds(stream)
        self.start = start_seconds(container, stream)
        self.step = 1 / average_rate(stream)
        self.expected = Fraction(0)
        self.earliest: Fraction | None = None

    def next(self, picture: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """The (time, duration) of the picture that follows."""
        stamp = picture.pts if picture.pts is not None else picture.dts
        time = self.expected if stamp is None else stamp * self.tick - self.start
        if self.earliest is not None:
            time = max(time, self.earliest)
        duration = picture.duration * self.tick if picture.duration else self.step
        self.expected, self.earliest = time + duration, time + self.tick
        return time, duration
